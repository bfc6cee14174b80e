package main

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"fleetbridge/bridge/local"
	"fleetbridge/internal/explain"
	"fleetbridge/mapping"
)

func newQueue(s streams) *cobra.Command {
	t := deadTarget{command: "queue"}
	c := &cobra.Command{
		Use:   "queue",
		Short: "List, show and drop what waits for the cloud",
		Long: "List, show and drop what programs have published and the broker does not have yet, by Thing and kind (commands,\n" +
			"jobs, shadow, events). The bridge must run.",
		Example: "  fleetbridge queue ls\n" +
			"  fleetbridge queue show --thing pump-07 --kind events",
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("queue: %q is no command, use ls, show or drop", args[0])
			}
			return usagef("queue: name what to do: ls, show or drop")
		},
	}
	t.flags(c.PersistentFlags())
	c.AddCommand(newQueueLs(s, &t), newQueueShow(s, &t), newQueueDrop(s, &t))
	return c
}

// queuePick is what the flags of queue select.
type queuePick struct{ thing, kind string }

func (p *queuePick) flags(c *cobra.Command) {
	c.Flags().StringVar(&p.thing, "thing", "", "only of this `THING`")
	c.Flags().StringVar(&p.kind, "kind", "", "only of this `KIND`: commands, jobs, shadow or events")
}

// open checks the flags and connects.
func (p *queuePick) open(c *cobra.Command, t *deadTarget) (*local.Waiting, func(), error) {
	if err := t.check(); err != nil {
		return nil, nil, err
	}
	if p.thing != "" {
		if _, err := mapping.ParseThing(p.thing); err != nil {
			return nil, nil, usagef("queue: --thing: %s", err)
		}
	}
	var kinds []string
	for _, k := range mapping.Kinds {
		kinds = append(kinds, k.String())
	}
	if err := oneOf("queue", "--kind", p.kind, kinds); err != nil {
		return nil, nil, err
	}
	nc, subjects, _, err := t.connect(c)
	if err != nil {
		return nil, nil, err
	}
	w, err := local.NewWaiting(nc, subjects)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return w, nc.Close, nil
}

func newQueueLs(s streams, t *deadTarget) *cobra.Command {
	var p queuePick
	var asJSON bool
	c := &cobra.Command{Use: "ls", Short: "Count what waits, by Thing and kind", Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			w, end, err := p.open(c, t)
			if err != nil {
				return err
			}
			defer end()
			lanes, err := w.Lanes(c.Context(), mapping.Thing(p.thing), p.kind)
			if err != nil {
				return fmt.Errorf("queue: %w", err)
			}
			if asJSON {
				lines := jsonLines(s.out)
				for _, l := range lanes {
					if err := lines.Encode(l); err != nil {
						return err
					}
				}
				return nil
			}
			now := time.Now()
			out := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(out, "THING\tKIND\tMESSAGES\tBYTES\tOLDEST")
			for _, l := range lanes {
				bytes, oldest := "-", "-"
				if l.Bytes > 0 {
					bytes = fmt.Sprint(l.Bytes)
				}
				if !l.Oldest.IsZero() {
					oldest = age(now.Sub(l.Oldest).Seconds())
				}
				fmt.Fprintf(out, "%s\t%s\t%d\t%s\t%s\n", printable(l.Thing), l.Kind, l.Messages, bytes, oldest)
			}
			return out.Flush()
		}}
	p.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return c
}

// waitingJSON is a message for machines.
type waitingJSON struct {
	Thing    string    `json:"thing"`
	Kind     string    `json:"kind"`
	Sequence uint64    `json:"seq"`
	Stored   time.Time `json:"stored"`
	Subject  string    `json:"subject"`
	explain.Payload
}

// errEnough ends a listing.
var errEnough = errors.New("enough")

func newQueueShow(s streams, t *deadTarget) *cobra.Command {
	var p queuePick
	var limit int
	var asJSON bool
	c := &cobra.Command{Use: "show", Short: "Show what waits, with its payloads, the oldest first", Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 0 {
				return usagef("queue: --limit: %d is less than 0", limit)
			}
			w, end, err := p.open(c, t)
			if err != nil {
				return err
			}
			defer end()
			lines, n := jsonLines(s.out), 0
			err = w.Each(c.Context(), mapping.Thing(p.thing), p.kind, func(m local.WaitingMessage) error {
				if n++; limit > 0 && n > limit {
					return errEnough
				}
				if asJSON {
					return lines.Encode(waitingJSON{m.Thing, m.Kind, m.Sequence, m.Stored, m.Subject, explain.NewPayload(m.Payload, 0)})
				}
				_, err := fmt.Fprintf(s.out, "%d  %s  %s\n%s\n", m.Sequence, m.Stored.Local().Format(time.DateTime), printable(m.Subject), shown(s.out, m.Payload))
				return err
			})
			switch {
			case errors.Is(err, errEnough):
				if !asJSON {
					_, err = fmt.Fprintf(s.out, "and more; --limit 0 shows all\n")
					return err
				}
				return nil
			case err != nil:
				return fmt.Errorf("queue: %w", err)
			case n == 0 && !asJSON:
				_, err = fmt.Fprintln(s.out, "nothing waits")
			}
			return err
		}}
	p.flags(c)
	c.Flags().IntVar(&limit, "limit", 20, "at most `N`; 0: all")
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return c
}

func newQueueDrop(s streams, t *deadTarget) *cobra.Command {
	var p queuePick
	c := &cobra.Command{Use: "drop --thing THING", Short: "Remove what waits of a Thing that is not configured any more, for good",
		Long: "Remove for good what waits of a Thing, of one kind or of all. Messages of a configured Thing may be in flight,\n" +
			"so first take the Thing out of the configuration. Wait for the reload, drop, and add the Thing again.",
		Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if p.thing == "" {
				return usagef("queue drop: --thing is missing")
			}
			w, end, err := p.open(c, t)
			if err != nil {
				return err
			}
			defer end()
			n, err := w.Drop(c.Context(), mapping.Thing(p.thing), p.kind)
			if err != nil {
				return fmt.Errorf("queue drop: thing %q: %w", p.thing, err)
			}
			_, err = fmt.Fprintf(s.out, "%d dropped\n", n)
			return err
		}}
	p.flags(c)
	return c
}
