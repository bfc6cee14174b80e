package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fleetbridge/bridge/local"
	"fleetbridge/bridge/sightings"
	"fleetbridge/internal/explain"
	"fleetbridge/mapping"
)

func newTrace(s streams) *cobra.Command {
	t := deadTarget{command: "trace"}
	c := &cobra.Command{
		Use:   "trace ID",
		Short: "Tell what became of one message",
		Long: "Tell what became of one message: first the evidence, then one sentence. ID is that of a command's execution or\n" +
			"of a job, the number of a dead letter, the Nats-Msg-Id of a message that waits, the clientToken of a question,\n" +
			"or a traceparent. The bridge does not keep delivered messages. So trace finds one only if fleetbridge tail\n" +
			"showed it, until ten minutes after tail has ended. Nothing is changed, and no consumer is made. Exit code 1:\n" +
			"nothing was found.",
		Example: "  fleetbridge trace 9f2c81d0-77ab-4c2e-9a53-2f0f5a1f7d11\n" +
			"  fleetbridge trace 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		Args: between(1, 1, "ID"),
		RunE: func(c *cobra.Command, args []string) error {
			id := strings.TrimSpace(args[0])
			if id == "" {
				return usagef("trace: ID is empty")
			}
			if err := t.check(); err != nil {
				return err
			}
			return trace(c, s, t, id)
		},
	}
	t.flags(c.Flags())
	return c
}

func trace(c *cobra.Command, s streams, t deadTarget, id string) error {
	nc, subjects, cfg, err := t.connect(c)
	if err != nil {
		return err
	}
	defer nc.Close()
	finder, err := local.NewFinder(nc, subjects)
	if err != nil {
		return err
	}
	search, err := finder.Find(c.Context(), id)
	if err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	v := &explain.Verdict{ID: id, Now: time.Now(), Search: search}
	var blind error
	if cfg != nil {
		v.Seen, blind = seenOf(c.Context(), cfg.NATS.Embedded.StoreDir, id)
	} else {
		blind = errors.New("with --nats only what is stored is looked at")
	}
	v.Why = func(thing mapping.Thing) string { return finder.Troubled(c.Context(), thing) }
	return printVerdict(s, v, blind)
}

// seenOf is what the bridge keeps of what was watched.
func seenOf(ctx context.Context, storeDir, id string) ([]*sightings.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	all, err := sightings.Kept(ctx, storeDir)
	return explain.Seen(all, id), err
}
