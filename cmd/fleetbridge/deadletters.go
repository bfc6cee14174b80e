package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"fleetbridge/bridge"
	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local/letters"
	"fleetbridge/internal/explain"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// deadFilter is what the flags select.
type deadFilter struct {
	thing, code, channel, direction, since string
	limit                                  int
}

func (f *deadFilter) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.thing, "thing", "", "only of this `THING`")
	c.Flags().StringVar(&f.code, "code", "", "only with this `CODE`, as schema or refused")
	c.Flags().StringVar(&f.channel, "channel", "", "only of this `CHANNEL`, as event")
	c.Flags().StringVar(&f.direction, "direction", "", "only `up` or down")
	c.Flags().StringVar(&f.since, "since", "", "only since this `TIME`: a duration back, as 24h, or RFC 3339")
	c.Flags().IntVar(&f.limit, "limit", 0, "the oldest `N`; 0: all")
}

// selection reads the flags; its errors are of usage.
func (f deadFilter) selection(now time.Time) (letters.Selection, error) {
	out := letters.Selection{Thing: mapping.Thing(f.thing), Code: f.code, Channel: f.channel, Direction: f.direction, Limit: f.limit}
	if f.thing != "" {
		if _, err := mapping.ParseThing(f.thing); err != nil {
			return out, usagef("dead: --thing: %s", err)
		}
	}
	if err := oneOf("dead", "--code", f.code, bridge.Codes[:]); err != nil {
		return out, err
	}
	if err := oneOf("dead", "--direction", f.direction, []string{mapping.Up.String(), mapping.Down.String()}); err != nil {
		return out, err
	}
	var channels []mapping.Channel
	for _, r := range mapping.Routes() {
		channels = append(channels, r.Channel)
	}
	if err := oneOf("dead", "--channel", f.channel, channels); err != nil {
		return out, err
	}
	if f.limit < 0 {
		return out, usagef("dead: --limit: %d is less than 0", f.limit)
	}
	if f.since == "" {
		return out, nil
	}
	if back, err := time.ParseDuration(f.since); err == nil {
		out.Since = now.Add(-back)
		return out, nil
	}
	at, err := time.Parse(time.RFC3339, f.since)
	if err != nil {
		return out, usagef("dead: --since: %q is no duration as 24h and no time as 2026-01-31T08:00:00Z", f.since)
	}
	out.Since = at
	return out, nil
}

// oneOf checks the value of a flag that takes one of a few.
func oneOf[T ~string](command, flag, value string, known []T) error {
	if value == "" {
		return nil
	}
	names := make([]string, len(known))
	for i, k := range known {
		if names[i] = string(k); names[i] == value {
			return nil
		}
	}
	if near := gateway.Closest(value, names); near != "" {
		return usagef("%s: %s: there is no %q, did you mean %s?", command, flag, value, near)
	}
	return usagef("%s: %s: there is no %q, it is one of %s", command, flag, value, strings.Join(names, ", "))
}

// deadPick is what replay and rm are for: IDs, or what flags select, or all.
type deadPick struct {
	deadFilter
	all bool
}

func (p *deadPick) flags(c *cobra.Command) {
	p.deadFilter.flags(c)
	c.Flags().BoolVar(&p.all, "all", false, "all there are")
}

// check asks for IDs or a selection, not both, and never takes nothing for all.
func (p *deadPick) check(c *cobra.Command, ids []uint64, now time.Time) (letters.Selection, error) {
	selection, err := p.selection(now)
	given := p.all || p.deadFilter != (deadFilter{})
	switch {
	case err != nil:
		return selection, err
	case len(ids) > 0 && given:
		return selection, usagef("dead %s: IDs and flags that select are both given, keep one", c.Name())
	case len(ids) == 0 && !given:
		return selection, usagef("dead %s: name IDs, or select with --thing, --code, --channel, --direction, --since or --limit, or say --all", c.Name())
	}
	return selection, nil
}

func listDead(c *cobra.Command, s streams, t deadTarget, selection letters.Selection, asJSON bool) error {
	dead, _, end, err := t.open(c)
	if err != nil {
		return err
	}
	defer end()
	if asJSON {
		lines := jsonLines(s.out)
		return dead.Each(c.Context(), selection, func(l letters.Letter) error { return lines.Encode(explain.NewLetter(l)) })
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTORED\tDIRECTION\tTHING\tCHANNEL\tCODE\tBYTES\tERROR")
	err = dead.Each(c.Context(), selection, func(l letters.Letter) error {
		_, err := fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", l.ID, l.Stored.Local().Format(time.DateTime), l.Direction,
			printable(l.Thing), cmp.Or(l.Channel, "-"), l.Code, l.Size, shortened(printable(l.Error)))
		return err
	})
	return errors.Join(err, w.Flush())
}

// shortened keeps a line of the list readable; show prints the whole.
func shortened(s string) string {
	const most = 100
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

func showDead(c *cobra.Command, s streams, t deadTarget, id uint64, asJSON bool) error {
	dead, _, end, err := t.open(c)
	if err != nil {
		return err
	}
	defer end()
	l, err := dead.Get(c.Context(), id)
	if err != nil {
		return err
	}
	if asJSON {
		out := explain.NewLetter(l)
		out.Payload = explain.NewPayload(l.Payload, 0)
		return jsonLines(s.out).Encode(out)
	}
	for _, line := range [][2]string{
		{"id", strconv.FormatUint(l.ID, 10)}, {"direction", l.Direction.String()}, {"thing", l.Thing}, {"channel", l.Channel},
		{"topic", l.Topic}, {"subject", l.Origin}, {"stored on", l.Subject}, {"received", l.Received.Format(time.RFC3339Nano)},
		{"stored", l.Stored.Format(time.RFC3339Nano)}, {"code", l.Code}, {"error", l.Error}, {"traceparent", l.Trace.Parent},
		{"bytes", strconv.Itoa(l.Size)},
	} {
		if line[1] != "" {
			fmt.Fprintf(s.out, "%-12s%s\n", line[0], printable(line[1]))
		}
	}
	fmt.Fprintln(s.out)
	if _, err := s.out.Write(shown(s.out, l.Payload)); err != nil {
		return err
	}
	fmt.Fprintln(s.out)
	return nil
}

// replaying sends letters on.
type replaying struct {
	dry   bool // send nothing
	force bool // send what would be refused again, too

	letters *letters.Letters
	catalog *schemas.Catalog
	own     map[mapping.Thing]*schemas.ThingSchemas // as far as the configuration tells
}

// open compiles the schemas, once. cfg is nil with --nats; then nothing is known of the Things' own.
func (r *replaying) open(letters *letters.Letters, cfg *gateway.Config) (err error) {
	if r.catalog != nil {
		return nil
	}
	r.letters = letters
	if cfg == nil {
		r.catalog, err = schemas.New(schemas.Options{})
		return err
	}
	if r.catalog, err = schemas.New(schemas.Options{MaxBytes: int(cfg.Limits.Payload), MaxDepth: cfg.Limits.Depth}); err != nil {
		return err
	}
	r.own, err = cfg.Schemas(r.catalog)
	return err
}

func (r *replaying) replay(ctx context.Context, s streams, id uint64) error {
	l, err := r.letters.Get(ctx, id)
	if err != nil {
		return err
	}
	again, err := r.refused(l)
	switch {
	case err != nil:
		return err
	case again != "" && !r.force:
		return fmt.Errorf("%d: not sent, it would be refused again: %s; --force sends it all the same", id, printable(again))
	case r.dry:
		_, err = fmt.Fprintf(s.out, "%d would be sent\n", id)
		return err
	}
	if err := r.letters.Replay(ctx, id)[id]; err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%d sent\n", id)
	return err
}

// refused says why a letter would be refused again on its way up; empty: nothing is known against it. What
// goes down is delivered unchecked.
func (r *replaying) refused(l letters.Letter) (string, error) {
	if l.Direction == mapping.Down {
		return "", nil
	}
	address, err := r.letters.Address(l)
	if err != nil {
		return err.Error(), nil
	}
	v := explain.Validation{Target: explain.At(address), Catalog: r.catalog, Own: r.own[address.Thing]}
	details, err := v.Check(l.Payload)
	if err != nil || len(details) == 0 {
		return "", err
	}
	return details[0].String(), nil
}
