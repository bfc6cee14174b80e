// Command fleetbridge shares an EMQX Fleets Thing's one MQTT session among all programs on a gateway,
// as NATS subjects.
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
	os.Exit(run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run carries out one command line and returns its exit code. Errors go to the error stream, one line
// each.
func run(ctx context.Context, args []string, s streams) int {
	root := newRoot(s)
	root.SetArgs(append([]string{}, args...)) // nil would mean os.Args
	err := root.ExecuteContext(ctx)
	wrong := (*usageError)(nil)
	switch {
	case err == nil:
		return done
	case errors.Is(err, errReported):
		return failed
	case errors.As(err, &wrong):
		fmt.Fprintf(s.err, "fleetbridge: %s\n", wrong)
		return usage
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(s.err, "fleetbridge: %s\n", strings.TrimSuffix(line, "\n"))
	}
	return failed
}

// errReported says that a command failed and has said why already.
var errReported = errors.New("failed")

// usageError is a command line that can't be carried out.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}
