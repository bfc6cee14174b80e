package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local"
	"fleetbridge/mapping"
)

// deadTarget is the running bridge whose dead letters are wanted: by its configuration, or by its
// NATS server and prefix.
type deadTarget struct {
	config, nats, prefix string
}

func newDead(s streams) *cobra.Command {
	var t deadTarget
	c := &cobra.Command{
		Use:   "dead",
		Short: "List, show and replay the dead letters of a running bridge",
		Long: "List, show and replay the dead letters of a running bridge, reached with --config FILE (its\n" +
			"configuration) or --nats URL. An ID is a dead letter's number in the list.",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("dead: %q is no command, use ls, show or replay", args[0])
			}
			return usagef("dead: name what to do: ls, show ID or replay ID…")
		},
		Args: cobra.ArbitraryArgs,
	}
	c.PersistentFlags().StringVarP(&t.config, "config", "c", "", "configuration `FILE` of the bridge")
	c.PersistentFlags().StringVar(&t.nats, "nats", "", "`URL` of its NATS server")
	c.PersistentFlags().StringVar(&t.prefix, "prefix", "fleets", "subject `PREFIX`, with --nats")
	c.AddCommand(
		&cobra.Command{Use: "ls", Short: "List the dead letters, the oldest first", Args: between(0, 0, ""),
			RunE: func(c *cobra.Command, _ []string) error {
				if err := t.check(); err != nil {
					return err
				}
				return listDead(c, s, t)
			}},
		&cobra.Command{Use: "show ID", Short: "Show one with its payload and why it died", Args: between(1, 1, "ID"),
			RunE: func(c *cobra.Command, args []string) error {
				ids, err := t.ids(args)
				if err != nil {
					return err
				}
				return showDead(c, s, t, ids[0])
			}},
		&cobra.Command{Use: "replay ID…", Short: "Send them the way they were going", Args: between(1, 1000, "ID"),
			RunE: func(c *cobra.Command, args []string) error {
				ids, err := t.ids(args)
				if err != nil {
					return err
				}
				return replayDead(c, s, t, ids)
			}},
	)
	return c
}

// check asks for exactly one way to reach the bridge.
func (t deadTarget) check() error {
	switch {
	case t.config == "" && t.nats == "":
		return usagef("dead: --config FILE or --nats URL is missing")
	case t.config != "" && t.nats != "":
		return usagef("dead: --config and --nats are both given, keep one")
	}
	if _, err := mapping.NewSubjects(t.prefix); err != nil {
		return usagef("dead: --prefix: %s", err)
	}
	return nil
}

// ids reads dead letter numbers, after check.
func (t deadTarget) ids(args []string) ([]uint64, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	out := make([]uint64, len(args))
	for i, a := range args {
		n, err := strconv.ParseUint(a, 10, 64)
		if err != nil || n == 0 {
			return nil, usagef("dead: %q is no ID, write a number from the list that dead ls prints", a)
		}
		out[i] = n
	}
	return out, nil
}

// open connects to the bridge's NATS server.
func (t deadTarget) open(c *cobra.Command) (*local.DeadLetters, *nats.Conn, error) {
	ctx, cancel := context.WithTimeout(c.Context(), connectTimeout)
	defer cancel()
	dial, prefix, cfg := local.DialConfig{}, t.prefix, (*gateway.Config)(nil)
	var err error
	if t.config == "" {
		if dial.URL, err = gateway.ParseNATS(t.nats); err != nil {
			return nil, nil, usagef("dead: --nats: %s", err)
		}
	} else {
		if cfg, err = loadConfig(c, t.config); err != nil {
			return nil, nil, err
		}
		if dial, err = cfg.OperatorDial(); err != nil {
			return nil, nil, err
		}
		prefix = cfg.NATS.Prefix
	}
	dial.Log = slog.New(slog.DiscardHandler)
	subjects, err := mapping.NewSubjects(prefix)
	if err != nil {
		return nil, nil, err
	}
	nc, err := local.Dial(ctx, dial)
	if err != nil {
		return nil, nil, unreached(cfg, err)
	}
	letters, err := local.NewDeadLetters(nc, subjects)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return letters, nc, nil
}

// unreached says of a connection that failed what the command line or the configuration calls it. cfg is nil
// with --nats.
func unreached(cfg *gateway.Config, err error) error {
	const key = "nats.url"
	where, ok := strings.CutPrefix(err.Error(), key+" ")
	switch {
	case !ok || cfg != nil && cfg.NATS.URL != "":
		return err
	case cfg == nil:
		return errors.New("dead: --nats " + where)
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("dead: the bridge does not answer at nats.embedded.listen %s; is it running with this configuration?", cfg.NATS.Embedded.Listen)
	}
	return errors.New("dead: nats.embedded.listen: " + where)
}

const (
	connectTimeout = 10 * time.Second
	deadPage       = 500 // letters read at a time
)

func listDead(c *cobra.Command, s streams, t deadTarget) error {
	letters, nc, err := t.open(c)
	if err != nil {
		return err
	}
	defer nc.Close()
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTORED\tDIRECTION\tTHING\tCHANNEL\tCODE\tBYTES\tERROR")
	after := uint64(0)
	for {
		page, err := letters.List(c.Context(), after, deadPage)
		if err != nil {
			return err
		}
		for _, l := range page {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", l.ID, l.Stored.Local().Format(time.DateTime), l.Direction,
				printable(l.Thing), cmp.Or(l.Channel, "-"), l.Code, l.Size, shortened(printable(l.Error)))
			after = l.ID
		}
		if len(page) < deadPage {
			return w.Flush()
		}
	}
}

// shortened keeps a line of the list readable; show prints the whole.
func shortened(s string) string {
	const most = 100
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

func showDead(c *cobra.Command, s streams, t deadTarget, id uint64) error {
	letters, nc, err := t.open(c)
	if err != nil {
		return err
	}
	defer nc.Close()
	l, err := letters.Get(c.Context(), id)
	if err != nil {
		return err
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

func replayDead(c *cobra.Command, s streams, t deadTarget, ids []uint64) error {
	letters, nc, err := t.open(c)
	if err != nil {
		return err
	}
	defer nc.Close()
	failures := letters.Replay(c.Context(), ids...)
	var errs []error
	for _, id := range ids {
		if err := failures[id]; err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(s.out, "%d sent\n", id)
	}
	return errors.Join(errs...)
}
