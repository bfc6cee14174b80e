package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"fleetbridge/bridge/gateway"
)

func newRun(s streams) *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:   "run --config FILE",
		Short: "Run the bridge until SIGINT or SIGTERM",
		Long: "Run the bridge until SIGINT or SIGTERM. Then it finishes what is in flight and stops within 10 s;\n" +
			"what is queued stays stored. A second signal ends it at once.",
		Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(c, config)
			if err != nil {
				return err
			}
			return runGateway(c.Context(), cfg, newLog(s, cfg.Log))
		},
	}
	configFlag(c, &config)
	return c
}

// newLog makes the log that a configuration asks for, on the error stream.
func newLog(s streams, c gateway.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // one of slog's own words: the configuration is validated
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(s.err, options))
	}
	return slog.New(slog.NewTextHandler(s.err, options))
}

func runGateway(ctx context.Context, cfg *gateway.Config, log *slog.Logger) error {
	g, err := gateway.New(cfg, gateway.ReadBuild(version, commit), log)
	if err != nil {
		return err
	}
	return g.Run(ctx)
}
