package main

import (
	"context"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"fleetbridge/bridge/local/ownership"
	"fleetbridge/mapping"
)

func newCluster(s streams) *cobra.Command {
	t := deadTarget{command: "cluster"}
	c := &cobra.Command{
		Use:   "cluster",
		Short: "List the bridges of a cluster, and have one give its Things away",
		Long: "List the bridges that share their Things on one NATS cluster (cluster.shards), and have one give its Things to\n" +
			"another, as before an upgrade. It is reached with --config FILE or --nats URL.",
		Example: "  fleetbridge cluster ls --config fleetbridge.yaml\n" +
			"  fleetbridge cluster drain gw-a --wait",
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("cluster: %q is no command, use ls, drain or undrain", args[0])
			}
			return usagef("cluster: name what to do: ls, drain ID or undrain ID")
		},
	}
	t.flags(c.PersistentFlags())
	c.AddCommand(newClusterLs(s, &t), newClusterDrain(s, &t), newClusterUndrain(s, &t))
	return c
}

func newClusterLs(s streams, t *deadTarget) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "ls", Short: "List the bridges, what they do, and when they last beat", Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			bridges, err := t.bridges(c)
			if err != nil {
				return err
			}
			defer bridges.nc.Close()
			all, err := bridges.list(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				lines := jsonLines(s.out)
				for _, m := range all {
					if err := lines.Encode(m); err != nil {
						return err
					}
				}
				return nil
			}
			out, now := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0), time.Now()
			fmt.Fprintln(out, "BRIDGE\tSTATE\tVERSION\tSHARDS\tTHINGS\tCONNECTED\tBEAT\tCONFIG")
			for _, m := range all {
				fmt.Fprintf(out, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", printable(m.ID), m.State, printable(m.Version), m.Shards, m.Things, m.Connected,
					age(max(now.Sub(m.Beat), 0).Seconds()), printable(m.Config))
			}
			return out.Flush()
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return c
}

// bridges are those of a cluster, by a connection to NATS.
type bridges struct {
	nc       *nats.Conn
	subjects mapping.Subjects
}

func (t *deadTarget) bridges(c *cobra.Command) (*bridges, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	nc, subjects, _, err := t.connect(c)
	if err != nil {
		return nil, err
	}
	return &bridges{nc, subjects}, nil
}

func (b *bridges) list(ctx context.Context) ([]ownership.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, clusterPatience)
	defer cancel()
	all, err := ownership.Members(ctx, b.nc, b.subjects)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return all, nil
}

// drain has a bridge give its Things away, or no longer. It returns all that there were before.
func (b *bridges) drain(ctx context.Context, id string, on bool) ([]ownership.Member, error) {
	all, err := b.list(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(all, func(m ownership.Member) bool { return m.ID == id }) {
		var ids []string
		for _, m := range all {
			ids = append(ids, m.ID)
		}
		return nil, fmt.Errorf("cluster: no bridge %q, there are %q", id, ids)
	}
	ctx, cancel := context.WithTimeout(ctx, clusterPatience)
	defer cancel()
	if err := ownership.Drain(ctx, b.nc, b.subjects, id, on); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return all, nil
}

const (
	clusterPatience = 10 * time.Second
	// drainPatience is more than a bridge needs to finish what is under way and another to take over.
	drainPatience = time.Minute
)

func newClusterDrain(s streams, t *deadTarget) *cobra.Command {
	var wait bool
	c := &cobra.Command{Use: "drain ID", Short: "Have a bridge give its Things away as soon as another can take them", Args: between(1, 1, "ID"),
		RunE: func(c *cobra.Command, args []string) error {
			id := args[0]
			bridges, err := t.bridges(c)
			if err != nil {
				return err
			}
			defer bridges.nc.Close()
			all, err := bridges.drain(c.Context(), id, true)
			if err != nil {
				return err
			}
			other := slices.ContainsFunc(all, func(m ownership.Member) bool {
				return m.ID != id && (m.State == "active" || m.State == "standby")
			})
			if !other {
				fmt.Fprintf(s.err, "no other bridge is there: %s keeps its Things until one comes\n", printable(id))
			}
			if !wait {
				return nil
			}
			things := 0
			for _, m := range all {
				if m.State == "active" || m.State == "draining" {
					things += m.Things
				}
			}
			ctx, cancel := context.WithTimeout(c.Context(), drainPatience)
			defer cancel()
			for {
				all, err := bridges.list(ctx)
				if err != nil {
					return err
				}
				if given(all, id, things) {
					return nil
				}
				select {
				case <-ctx.Done():
					return fmt.Errorf("cluster: %s has not given its Things away within %v, or the other bridges are not connected with all of them; see fleetbridge cluster ls", id, drainPatience)
				case <-time.After(200 * time.Millisecond):
				}
			}
		}}
	c.Flags().BoolVar(&wait, "wait", false, "return when other bridges have the Things and they are connected")
	return c
}

// given reports whether a bridge has no Things any more, and the others are connected with so many.
func given(all []ownership.Member, id string, things int) bool {
	connected := 0
	for _, m := range all {
		switch {
		case m.ID == id && (m.Shards > 0 || m.Things > 0):
			return false
		case m.ID != id && m.State == "active" && m.Connected == m.Things:
			connected += m.Connected
		}
	}
	return connected > 0 && connected >= things
}

func newClusterUndrain(_ streams, t *deadTarget) *cobra.Command {
	return &cobra.Command{Use: "undrain ID", Short: "Let a bridge have Things again", Args: between(1, 1, "ID"),
		RunE: func(c *cobra.Command, args []string) error {
			bridges, err := t.bridges(c)
			if err != nil {
				return err
			}
			defer bridges.nc.Close()
			_, err = bridges.drain(c.Context(), args[0], false)
			return err
		}}
}
