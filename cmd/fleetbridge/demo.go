package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"fleetbridge/bridge/console"
	"fleetbridge/internal/demo"
)

func newDemo(s streams) *cobra.Command {
	var once bool
	c := &cobra.Command{
		Use:     "demo",
		Example: "  fleetbridge demo\n  fleetbridge demo --once && echo all flows work",
		Short:   "Show every flow in one process, with nothing to install",
		Long: "Show every flow in one process: a Fleets simulator with an MQTT broker, an embedded NATS server, the\n" +
			"bridge, and a sample thermostat program. With --once do the full tour, check each step and exit 0 or 1.",
		Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			return runDemo(c.Context(), s, once)
		},
	}
	c.Flags().BoolVar(&once, "once", false, "do the tour once, check each step, exit 0 or 1")
	return c
}

// runDemo cleans up, too, when its terminal is closed, or the pipe that reads it.
func runDemo(ctx context.Context, s streams, once bool) error {
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()
	o := demo.Options{Out: s.out, Color: coloured(s.out, os.Getenv), Once: once}
	if !once {
		o.Console = console.NewWithCloud
	}
	return demo.Run(ctx, o)
}

// coloured reports whether an output is a terminal whose user has not asked for plain text.
func coloured(out io.Writer, env func(string) string) bool {
	f, ok := out.(*os.File)
	if !ok || env("NO_COLOR") != "" || env("TERM") == "dumb" {
		return false
	}
	if runtime.GOOS == "windows" && env("WT_SESSION") == "" && env("TERM") == "" {
		return false // an old console prints the codes
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
