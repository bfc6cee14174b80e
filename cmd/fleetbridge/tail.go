package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fleetbridge/bridge"
	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/sightings"
	"fleetbridge/internal/explain"
	"fleetbridge/mapping"
)

func newTail(s streams) *cobra.Command {
	var config string
	var f sightings.Filter
	var asJSON bool
	c := &cobra.Command{
		Use:   "tail [--config FILE]",
		Short: "Show messages as they pass, with what became of each",
		Long: "Show the messages of a running bridge as they pass, until Ctrl-C: a line with the outcome of each message,\n" +
			"request and command, and one for each change of a Thing's connection. It shows nothing from before its start.\n" +
			"NATS sees no subscriber, and the bridge never waits for tail: when more passes than can be shown, a line says\n" +
			"how many were left out. Only the bridge's own user and root may use it.",
		Example: "  fleetbridge tail --thing 'pump-*' --outcome dead\n" +
			"  fleetbridge tail --channel event --json | jq .payload",
		Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkFilter(f); err != nil {
				return err
			}
			cfg, err := loadConfig(c, &config)
			if err != nil {
				return err
			}
			return follow(c.Context(), s, cfg, f, asJSON)
		},
	}
	configFlag(c, &config)
	c.Flags().StringVar(&f.Thing, "thing", "", "only of this `THING`; * stands for any characters, as pump-*")
	c.Flags().StringVar(&f.Channel, "channel", "", "only of this `CHANNEL`, as event")
	c.Flags().StringVar(&f.Direction, "direction", "", "only `up` or down")
	c.Flags().StringVar(&f.Outcome, "outcome", "", "only with this `OUTCOME`, as dead or duplicate")
	c.Flags().StringVar(&f.Text, "text", "", "only with this `TEXT` in the first 4 KiB of the payload, the id or the reason")
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return c
}

// checkFilter reads the flags; its errors are of usage.
func checkFilter(f sightings.Filter) error {
	if f.Thing != "" {
		if _, err := mapping.ParseThing(cmp.Or(strings.ReplaceAll(f.Thing, "*", ""), "x")); err != nil {
			return usagef("tail: --thing: %s", err)
		}
	}
	if err := oneOf("tail", "--channel", f.Channel, sightings.Channels); err != nil {
		return err
	}
	if err := oneOf("tail", "--direction", f.Direction, []string{mapping.Up.String(), mapping.Down.String()}); err != nil {
		return err
	}
	return oneOf("tail", "--outcome", f.Outcome, bridge.Sightings[:])
}

// againPause is how long to wait for a bridge that is being started again.
const againPause = 500 * time.Millisecond

// follow prints what passes until ctx ends. A bridge that goes away is waited for.
func follow(ctx context.Context, s streams, cfg *gateway.Config, f sightings.Filter, asJSON bool) error {
	var printing error
	found, lost := false, false
	for {
		err := sightings.Follow(ctx, cfg.NATS.Embedded.StoreDir, f, func(l sightings.Line) error {
			switch {
			case l.Hello != "" && !found:
				fmt.Fprintf(s.err, "fleetbridge: tail: watching fleetbridge %s, Ctrl-C ends\n", printable(l.Hello))
			case l.Hello != "":
				fmt.Fprintf(s.err, "fleetbridge: tail: the bridge is back; what passed meanwhile was not seen\n")
			case l.Bye != "": // its end follows
			case asJSON:
				printing = printJSON(s.out, l)
			default:
				_, printing = fmt.Fprintln(s.out, tailLine(l))
			}
			found, lost = found || l.Hello != "", false
			return printing
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case printing != nil:
			return printing
		case !found:
			return notWatched("tail", cfg, err)
		case !lost:
			fmt.Fprintf(s.err, "fleetbridge: tail: the bridge has gone; waiting for it to come back\n")
			lost = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(againPause):
		}
	}
}

// printJSON prints a line for programs, which steers no terminal either.
func printJSON(w io.Writer, l sightings.Line) error {
	var line bytes.Buffer
	err := jsonLines(&line).Encode(l)
	if err == nil {
		_, err = w.Write(shown(w, line.Bytes()))
	}
	return err
}

// notWatched says why a command can't reach the bridge by its socket, and the mend.
func notWatched(command string, cfg *gateway.Config, err error) error {
	dir := cfg.NATS.Embedded.StoreDir
	switch {
	case errors.Is(err, sightings.ErrRefused):
		return fmt.Errorf("%s: %w", command, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: the bridge with nats.embedded.store_dir %s lets only its own user look, and root: run this as one of them", command, dir)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: no bridge answers in nats.embedded.store_dir %s; is it running, on this machine, with this configuration?", command, dir)
	}
	return fmt.Errorf("%s: no bridge answers in nats.embedded.store_dir %s (%w); is it running, on this machine, with this configuration?", command, dir, err)
}

// tailLine is a line for people.
func tailLine(l sightings.Line) string {
	if l.Record == nil {
		return fmt.Sprintf("── %d more were not shown (%s); name less with --thing, --channel or --text ──", l.Skipped, l.By)
	}
	r := l.Record
	arrow := map[string]string{"up": "▲", "down": "▼"}[r.Direction]
	what := cmp.Or(r.Channel, "-")
	if arrow == "" {
		arrow, what = "●", "connection"
	}
	if r.ID != "" {
		what += " " + r.ID
	}
	line := fmt.Sprintf("%s %s %-12s %-24s %s", r.At.Local().Format("15:04:05.000"), arrow, printable(r.Thing), shortened(printable(what)), shortened(printable(explain.Fate(r))))
	if r.TookMS > 0 {
		line += " in " + explain.Took(r.TookMS)
	}
	if payload := r.Head(); payload != "" {
		line += "  " + inLine(payload)
	}
	return line
}
