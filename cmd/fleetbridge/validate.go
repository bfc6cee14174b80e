package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tidwall/gjson"

	"fleetbridge/bridge/gateway"
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
			v := validation{catalog: catalog}
			if dir != "" {
				if v.own, err = catalog.LoadThing(dir); err != nil {
					return err
				}
			}
			if thingType != "" {
				typed, _, err := catalog.LoadThingType(thingType)
				if err != nil {
					return err
				}
				v.own = typed.With(v.own)
			}
			targets, err := findTargets(catalog, args[0], prefix)
			if err != nil {
				return err
			}
			payload, name, err := readPayload(c.Context(), s, args[1:])
			if err != nil {
				return err
			}
			v.target = choose(targets, payload)
			return v.report(s, name, payload)
		},
	}
	c.Flags().StringVar(&dir, "schema-dir", "", "`DIR`ectory of a Thing's own schemas, checked too")
	c.Flags().StringVar(&thingType, "thing-type", "", "`FILE` with its Thing Type, checked too")
	c.Flags().StringVar(&prefix, "prefix", "fleets", "subject `PREFIX`")
	_ = c.MarkFlagDirname("schema-dir")
	return c
}

// target is what a payload is held against: a schema and, for a topic or subject, the address.
type target struct {
	schema  string
	address *mapping.Address
	none    none
}

// none is what the bridge makes of a payload without bytes.
type none uint8

const (
	nonePayload none = iota // what it makes of any other
	noneFine                // it is all that there is to say: a handler's SUCCEEDED, a question for the shadow
	noneObject              // {}, and fills the members in
)

// findTargets reads CHANNEL. Only the topic shadow/update is two: report and desired.
func findTargets(catalog *schemas.Catalog, text, prefix string) ([]target, error) {
	switch {
	case catalog.Source(text) != nil:
		return []target{{schema: text}}, nil
	case serviceSchema(text) != "":
		return []target{{schema: serviceSchema(text), none: noneFine}}, nil
	}
	subjects, err := mapping.NewSubjects(prefix)
	if err != nil {
		return nil, usagef("validate: --prefix: %s", err)
	}
	if !isTopic(text) && !isSubject(subjects, text) {
		if near := gateway.Closest(text, catalog.Names()); near != "" {
			return nil, usagef("validate: there is no channel %q, did you mean %s?", text, near)
		}
		return nil, usagef("validate: there is no channel %q; explain lists them, topics begin with $emqx/ and subjects with %s.", text, prefix)
	}
	found, err := find(subjects, text)
	if err != nil {
		return nil, usagef("validate: %s", err)
	}
	var out []target
	for _, m := range found {
		switch {
		case m.open():
			return nil, usagef("validate: %q is no single channel, name one", text)
		case m.service != "":
			out = append(out, target{schema: serviceSchema(m.service), none: noneFine})
		default:
			a := m.address()
			t := target{schema: string(a.Channel), address: &a}
			if asked := strings.HasPrefix(text, prefix+"."+string(mapping.SpaceReq)+"."); asked && m.route.Accepted != "" {
				t.none = noneObject
			}
			out = append(out, t)
		}
	}
	return out, nil
}

// serviceSchema is what the two that are no channel answer with: the shadow document, and a handler's
// reply.
func serviceSchema(service string) string {
	switch service {
	case shadowGet:
		return schemas.ShadowDocument
	case commandHandler:
		return string(mapping.CommandResponse)
	}
	return ""
}

// choose takes a payload on a topic that is used both ways for the cloud's when only the cloud could
// have written it.
func choose(targets []target, payload []byte) target {
	if len(targets) > 1 && gjson.GetBytes(payload, "state.desired").Exists() && !gjson.GetBytes(payload, "state.reported").Exists() {
		return targets[1]
	}
	return targets[0]
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

// validation is one payload's check: the channel's schema, its address, the Thing's own schemas.
type validation struct {
	target
	catalog *schemas.Catalog
	own     *schemas.ThingSchemas
}

func (v validation) report(s streams, name string, payload []byte) error {
	details, err := v.check(payload)
	switch {
	case err != nil:
		return err
	case len(details) == 0:
		if at := gjson.GetBytes(payload, "timestamp"); v.schema == string(mapping.Event) && schemas.LooksLikeSeconds(at) {
			fmt.Fprintf(s.err, "warning: /timestamp: %s looks like seconds, it is read as milliseconds: multiply it by 1000\n", at.Raw)
		}
		if len(payload) == 0 && v.none == noneFine {
			_, err := fmt.Fprintf(s.out, "OK: %s is empty, and may be\n", name)
			return err
		}
		_, err := fmt.Fprintf(s.out, "OK: %s is a valid %s\n", name, v.schema)
		return err
	}
	for _, d := range details {
		fmt.Fprintln(s.err, d)
	}
	return errReported
}

// check looks at the payload from every side, as far as one that is broken can be looked at: what is
// no JSON is not compared with anything, and a value is found wrong once.
func (v validation) check(payload []byte) ([]schemas.Detail, error) {
	var out []schemas.Detail
	switch {
	case len(payload) > 0:
	case v.none == noneFine || v.catalog.Check(context.Background(), v.schema, payload) == nil:
		return nil, nil
	case v.none == noneObject:
		payload = []byte("{}")
	}
	sides := []func([]byte) error{
		func(p []byte) error { return v.catalog.Check(context.Background(), v.schema, p) },
		v.checkAddress, v.checkOwn,
	}
	for _, side := range sides {
		err := side(payload)
		broken := (*schemas.Error)(nil)
		switch {
		case err == nil:
			continue
		case !errors.As(err, &broken):
			return nil, err
		}
		for _, d := range broken.Details {
			if !slices.ContainsFunc(out, func(o schemas.Detail) bool { return o.Pointer == d.Pointer }) {
				out = append(out, d)
			}
		}
		if broken.Code != schemas.CodeSchema {
			return out, nil
		}
	}
	return out, nil
}

// checkAddress compares the payload with its address, or looks whether there can be one.
func (v validation) checkAddress(payload []byte) error {
	switch {
	case v.address != nil:
		return schemas.CheckAddress(*v.address, payload)
	case v.schema == string(mapping.Event):
		return schemas.CheckEventType(payload)
	}
	return nil
}

// checkOwn holds the Thing's part of a payload against the Thing's own schemas.
func (v validation) checkOwn(payload []byte) error {
	return v.own.Check(context.Background(), v.schema, payload)
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
