package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/spf13/cobra"

	"fleetbridge/bridge/console"
	"fleetbridge/bridge/gateway"
)

func newRun(s streams) *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:     "run [--config FILE]",
		Example: "  fleetbridge run --config fleetbridge.yaml\n  kill -HUP PID    # have it read its configuration again",
		Short:   "Run the bridge until SIGINT or SIGTERM",
		Long: "Run the bridge until SIGINT or SIGTERM. Then it finishes what is in flight, and stops within 10 s. Queued\n" +
			"messages stay stored. A second signal ends it at once.\n\n" +
			"The bridge reads FILE again when it has changed, or a file that it names, and on SIGHUP. It adds, removes and\n" +
			"changes Things without touching the sessions of others. If the new configuration is broken, or needs a restart,\n" +
			"the bridge keeps the old one, and says so in the log.",
		Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			again, stop := hangups()
			defer stop()
			file, cfg, err := loadFile(c, &config)
			if err != nil {
				return err
			}
			level := new(slog.LevelVar)
			g, err := gateway.New(cfg, gateway.ReadBuild(version, commit), newLog(s, cfg.Log, level))
			if err != nil {
				return err
			}
			g.Level, g.Console = level, console.New
			return runGateway(c.Context(), g, func(ctx context.Context) {
				if terminal(s.err) {
					greet(ctx, g, s)
				}
				g.Follow(ctx, file, again)
			})
		},
	}
	configFlag(c, &config)
	return c
}

// newLog makes the log that a configuration asks for, on the error stream. level is set, and may change.
func newLog(s streams, c gateway.Log, level *slog.LevelVar) *slog.Logger {
	_ = level.UnmarshalText([]byte(c.Level)) // one of slog's own words: the configuration is validated
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(s.err, options))
	}
	return slog.New(slog.NewTextHandler(s.err, options))
}

// runGateway runs the gateway, and beside it what tells systemd and what follows the configuration.
func runGateway(ctx context.Context, g *gateway.Gateway, follow func(context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { newSupervisor(g, g.Log()).tell(ctx) })
	beside.Go(func() { follow(ctx) })
	err := g.Run(ctx)
	cancel()
	beside.Wait()
	return err
}
