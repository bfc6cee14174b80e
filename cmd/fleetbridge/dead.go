package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local/letters"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// deadTarget is the running bridge whose store is looked into: by its configuration, or by its NATS server and prefix.
type deadTarget struct {
	command              string // whose errors say so
	config, nats, prefix string
}

func (t *deadTarget) flags(f *pflag.FlagSet) {
	f.StringVarP(&t.config, "config", "c", "", configHelp)
	f.StringVar(&t.nats, "nats", "", "`URL` of its NATS server")
	f.StringVar(&t.prefix, "prefix", "fleets", "subject `PREFIX`, with --nats")
}

func newDead(s streams) *cobra.Command {
	t := deadTarget{command: "dead"}
	c := &cobra.Command{
		Use:   "dead",
		Short: "List, show, replay and remove the dead letters of a running bridge",
		Long: "List, show, replay and remove the dead letters of a running bridge, reached with --config FILE (its\n" +
			"configuration) or --nats URL. An ID is a dead letter's number in the list.",
		Example: "  fleetbridge dead ls --config fleetbridge.yaml --thing pump-07 --since 24h\n" +
			"  fleetbridge dead replay --config fleetbridge.yaml --code refused",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("dead: %q is no command, use ls, show, replay or rm", args[0])
			}
			return usagef("dead: name what to do: ls, show ID, replay or rm")
		},
		Args: cobra.ArbitraryArgs,
	}
	t.flags(c.PersistentFlags())
	c.AddCommand(newDeadLs(s, &t), newDeadShow(s, &t), newDeadReplay(s, &t), newDeadRm(s, &t))
	return c
}

func newDeadLs(s streams, t *deadTarget) *cobra.Command {
	var f deadFilter
	var asJSON bool
	c := &cobra.Command{Use: "ls", Short: "List the dead letters, the oldest first", Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			selection, err := f.selection(time.Now())
			if err == nil {
				err = t.check()
			}
			if err != nil {
				return err
			}
			return listDead(c, s, *t, selection, asJSON)
		}}
	f.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return c
}

func newDeadShow(s streams, t *deadTarget) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "show ID", Short: "Show one with its payload and why it died", Args: between(1, 1, "ID"),
		RunE: func(c *cobra.Command, args []string) error {
			ids, err := t.ids(args)
			if err != nil {
				return err
			}
			return showDead(c, s, *t, ids[0], asJSON)
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object, with the payload")
	return c
}

func newDeadReplay(s streams, t *deadTarget) *cobra.Command {
	var pick deadPick
	var dry, force bool
	c := &cobra.Command{Use: "replay [ID…]", Short: "Send dead letters on, to where they were going",
		Long: "Send dead letters on, to where they were going: those with these IDs, or all that the flags select. A message for\n" +
			"the cloud that would be refused again, by its schema or by a Thing's own, is not sent unless --force is given; what\n" +
			"the broker would say is not known beforehand.",
		RunE: func(c *cobra.Command, args []string) error {
			r := &replaying{dry: dry, force: force}
			return t.each(c, &pick, args, func(dead *letters.Letters, cfg *gateway.Config, id uint64) error {
				if err := r.open(dead, cfg); err != nil {
					return err
				}
				return r.replay(c.Context(), s, id)
			})
		}}
	pick.flags(c)
	c.Flags().BoolVar(&dry, "dry-run", false, "send nothing, say what would be refused again")
	c.Flags().BoolVar(&force, "force", false, "send what would be refused again, too")
	return c
}

func newDeadRm(s streams, t *deadTarget) *cobra.Command {
	var pick deadPick
	c := &cobra.Command{Use: "rm [ID…]", Short: "Remove dead letters for good",
		RunE: func(c *cobra.Command, args []string) error {
			return t.each(c, &pick, args, func(dead *letters.Letters, _ *gateway.Config, id uint64) error {
				if err := dead.Remove(c.Context(), id)[id]; err != nil {
					return err
				}
				_, err := fmt.Fprintf(s.out, "%d removed\n", id)
				return err
			})
		}}
	pick.flags(c)
	return c
}

// check asks for one way to reach the bridge.
func (t deadTarget) check() error {
	if t.config != "" && t.nats != "" {
		return usagef("%s: --config and --nats are both given, keep one", t.command)
	}
	if _, err := mapping.NewSubjects(t.prefix); err != nil {
		return usagef("%s: --prefix: %s", t.command, err)
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

// open connects to the bridge's dead letters. cfg is nil with --nats.
func (t deadTarget) open(c *cobra.Command) (dead *letters.Letters, cfg *gateway.Config, end func(), err error) {
	nc, subjects, cfg, err := t.connect(c)
	if err != nil {
		return nil, nil, nil, err
	}
	if dead, err = letters.New(nc, subjects); err != nil {
		nc.Close()
		return nil, nil, nil, err
	}
	return dead, cfg, nc.Close, nil
}

// connect connects to the bridge's NATS server. cfg is nil with --nats.
func (t deadTarget) connect(c *cobra.Command) (nc *nats.Conn, subjects mapping.Subjects, cfg *gateway.Config, err error) {
	ctx, cancel := context.WithTimeout(c.Context(), connectTimeout)
	defer cancel()
	dial, prefix := wire.DialConfig{}, t.prefix
	if t.nats != "" {
		if dial.URL, err = gateway.ParseNATS(t.nats); err != nil {
			return nil, subjects, nil, usagef("%s: --nats: %s", t.command, err)
		}
	} else {
		if cfg, err = loadConfig(c, &t.config); err != nil {
			return nil, subjects, nil, err
		}
		if dial, err = cfg.OperatorDial(); err != nil {
			return nil, subjects, nil, err
		}
		prefix = cfg.NATS.Prefix
	}
	dial.Log = slog.New(slog.DiscardHandler)
	if subjects, err = mapping.NewSubjects(prefix); err != nil {
		return nil, subjects, nil, err
	}
	if nc, err = wire.Dial(ctx, dial); err != nil {
		return nil, subjects, nil, t.unreached(cfg, err)
	}
	return nc, subjects, cfg, nil
}

// unreached says of a connection that failed what the command line or the configuration calls it. cfg is nil
// with --nats.
func (t deadTarget) unreached(cfg *gateway.Config, err error) error {
	const key = "nats.url"
	where, ok := strings.CutPrefix(err.Error(), key+" ")
	switch {
	case !ok || cfg != nil && cfg.NATS.URL != "":
		return err
	case cfg == nil:
		return errors.New(t.command + ": --nats " + where)
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("%s: the bridge does not answer at nats.embedded.listen %s; is it running with this configuration?", t.command, cfg.NATS.Embedded.Listen)
	}
	return errors.New(t.command + ": nats.embedded.listen: " + where)
}

const connectTimeout = 10 * time.Second

// each calls f for every letter that is picked, one after the other, and goes on after those that fail.
func (t deadTarget) each(c *cobra.Command, pick *deadPick, args []string, f func(*letters.Letters, *gateway.Config, uint64) error) error {
	ids, err := t.ids(args)
	if err != nil {
		return err
	}
	selection, err := pick.check(c, ids, time.Now())
	if err != nil {
		return err
	}
	dead, cfg, end, err := t.open(c)
	if err != nil {
		return err
	}
	defer end()
	if len(ids) == 0 { // all are picked first: what is sent may come back as a new letter
		err := dead.Each(c.Context(), selection, func(l letters.Letter) error { ids = append(ids, l.ID); return nil })
		if err != nil {
			return err
		}
	}
	var errs []error
	for _, id := range ids {
		if err := f(dead, cfg, id); err != nil {
			errs = append(errs, err)
		}
		if err := c.Context().Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	return errors.Join(errs...)
}
