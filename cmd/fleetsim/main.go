// Command fleetsim is the EMQX Fleets simulator alone: an MQTT 5 broker, or a client of yours, and
// the ThingDatas and management HTTP API.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"fleetbridge/bridge/fleetstest"
)

// Exit codes.
const (
	done   = 0
	failed = 1
	usage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run carries out one command line and returns its exit code. The flows go to out, errors to the
// error stream, one line each.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	f, err := parse(args, out)
	switch {
	case errors.Is(err, errHelp):
		return done
	case err != nil:
		complain(errs, err)
		return usage
	}
	if err := simulate(ctx, f.options(out)); err != nil {
		complain(errs, err)
		return failed
	}
	return done
}

func simulate(ctx context.Context, o fleetstest.Options) error {
	sim, err := fleetstest.New(o)
	if err != nil {
		return err
	}
	return sim.Run(ctx)
}

func complain(w io.Writer, err error) {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(w, "fleetsim: %s\n", strings.TrimSuffix(line, "\n"))
	}
}
