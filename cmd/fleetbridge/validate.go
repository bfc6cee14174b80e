package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"fleetbridge/internal/explain"
	"fleetbridge/internal/plainfile"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

func newValidate(s streams) *cobra.Command {
	var dir, thingType, prefix string
	c := &cobra.Command{
		Use:   "validate CHANNEL [FILE]",
		Short: "Check one payload",
		Long: "Check one payload and print what breaks, one line each. CHANNEL is a channel's name (event,\n" +
			"shadow.report, jobs.start-next.accepted, … as explain lists them), a topic or a subject; the latter two\n" +
			"are also compared with the payload. FILE defaults to -, the standard input. An event whose timestamp looks\n" +
			"like seconds is warned of.",
		Example:           "  echo '{\"eventType\":\"dryRun\",\"severity\":\"warn\"}' | fleetbridge validate event",
		Args:              between(1, 2, "CHANNEL"),
		ValidArgsFunction: completeChannel,
		RunE: func(c *cobra.Command, args []string) error {
			catalog, err := schemas.New(schemas.Options{})
			if err != nil {
				return err
			}
			v := explain.Validation{Catalog: catalog}
			if dir != "" {
				if v.Own, err = catalog.LoadThing(dir); err != nil {
					return err
				}
			}
			if thingType != "" {
				typed, _, err := catalog.LoadThingType(thingType)
				if err != nil {
					return err
				}
				v.Own = typed.With(v.Own)
			}
			targets, err := explain.FindTargets(catalog, args[0], prefix)
			if err != nil {
				return usagef("validate: %s", err)
			}
			payload, name, err := readPayload(c.Context(), s, args[1:])
			if err != nil {
				return err
			}
			v.Target = explain.Choose(targets, payload)
			return report(v, s, name, payload)
		},
	}
	c.Flags().StringVar(&dir, "schema-dir", "", "`DIR`ectory of a Thing's own schemas, checked too")
	c.Flags().StringVar(&thingType, "thing-type", "", "`FILE` with its Thing Type, checked too")
	c.Flags().StringVar(&prefix, "prefix", "fleets", "subject `PREFIX`")
	_ = c.MarkFlagDirname("schema-dir")
	return c
}

// maxPayloadFile is more than any limits.payload allows, so that the check says that it is too large.
const maxPayloadFile = 16 << 20

func readPayload(ctx context.Context, s streams, args []string) (payload []byte, name string, err error) {
	if len(args) == 0 || args[0] == "-" {
		payload, err = readInput(ctx, s.in)
		return payload, "standard input", err
	}
	file, err := plainfile.Read(args[0], "payload", maxPayloadFile)
	if refused := (*plainfile.Refused)(nil); errors.As(err, &refused) {
		return nil, args[0], fmt.Errorf("validate: %w; what a program writes goes into the standard input", err)
	}
	return file.Data, args[0], err
}

// readInput reads all of the standard input, until ctx ends.
func readInput(ctx context.Context, in io.Reader) ([]byte, error) {
	type read struct {
		data []byte
		err  error
	}
	done := make(chan read, 1)
	go func() {
		data, err := io.ReadAll(io.LimitReader(in, maxPayloadFile+1))
		done <- read{data, err}
	}()
	select {
	case r := <-done:
		if len(r.data) > maxPayloadFile {
			return nil, errors.New("the standard input has more than 16MiB, which no payload needs")
		}
		return r.data, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func report(v explain.Validation, s streams, name string, payload []byte) error {
	details, err := v.Check(payload)
	switch {
	case err != nil:
		return err
	case len(details) == 0:
		if warning := v.Warning(payload); warning != "" {
			fmt.Fprintf(s.err, "warning: %s\n", warning)
		}
		if len(payload) == 0 && v.NoneFine() {
			_, err := fmt.Fprintf(s.out, "OK: %s is empty, and may be\n", name)
			return err
		}
		_, err := fmt.Fprintf(s.out, "OK: %s is a valid %s\n", name, v.Schema)
		return err
	}
	for _, d := range details {
		fmt.Fprintln(s.err, d)
	}
	return errReported
}

func completeChannel(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var out []string
	for _, r := range mapping.Routes() {
		out = append(out, string(r.Channel)+"\t"+r.About)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
