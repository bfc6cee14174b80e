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
	os.Exit(run(ctx, os.Args[1:], streams{os.Stdout, os.Stderr}))
}

// streams are what the command writes: the flows go to out, errors and nothing else to err.
type streams struct{ out, err io.Writer }

// run carries out one command line and returns its exit code. Errors go to the error stream, one line
// each.
func run(ctx context.Context, args []string, s streams) int {
	root := newRoot(s)
	root.SetArgs(append([]string{}, args...)) // nil would mean os.Args
	err := root.ExecuteContext(ctx)
	if err == nil {
		return done
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(s.err, "fleetsim: %s\n", strings.TrimSuffix(line, "\n"))
	}
	if wrong := (*usageError)(nil); errors.As(err, &wrong) {
		return usage
	}
	return failed
}

// usageError is a command line that can't be carried out, for one reason a line.
type usageError struct{ error }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}
