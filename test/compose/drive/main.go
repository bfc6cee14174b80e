// Command drive is the container from which test/compose/run drives the stack: a program on the gateway
// over NATS, and the operator of the cloud over HTTP.
//
//	drive flows        a report, a desired state, a command and a job, each seen to its end
//	drive load N       N events, with commands and jobs beside them, while others break things; then counts
//	drive events       events until SIGTERM; then counts. Needs no sample program
//
// It prints a line for each step. Exit codes: 0 done, 1 something is missing, 2 usage.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// patience bounds a whole run; what it waits for comes within seconds when all is well.
const patience = 4 * time.Minute

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	told, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, told, os.Args[1:]))
}

// run works until ctx ends. told ends when somebody wants it to.
func run(ctx, told context.Context, args []string) int {
	events := 0
	switch {
	case len(args) == 1 && (args[0] == "flows" || args[0] == "events"):
	case len(args) == 2 && args[0] == "load":
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "drive: %q is no number of events\n", args[1])
			return 2
		}
		events = n
	default:
		fmt.Fprintln(os.Stderr, "drive: write flows, events, or load N")
		return 2
	}
	d, err := connect()
	if err == nil {
		defer d.nc.Close()
		switch args[0] {
		case "load":
			err = d.load(told, events)
		case "events":
			err = d.events(ctx, told)
		default:
			err = d.flows(told)
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "drive: %s\n", err)
		return 1
	}
	return 0
}

// driver is both ends of the stack.
type driver struct {
	thing string
	nc    *nats.Conn
	js    jetstream.JetStream
	cloud *cloud
}

// connect reads where everything is from the environment. It does not wait for a bridge that is away.
func connect() (*driver, error) {
	password, err := os.ReadFile(os.Getenv("NATS_PASSWORD_FILE"))
	if err != nil {
		return nil, fmt.Errorf("NATS_PASSWORD_FILE: %w", err)
	}
	user := os.Getenv("NATS_USER")
	nc, err := nats.Connect(os.Getenv("NATS_URL"), nats.UserInfo(user, strings.TrimSuffix(string(password), "\n")),
		nats.CustomInboxPrefix("_INBOX_"+user), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond))
	if err != nil {
		return nil, fmt.Errorf("NATS: %w", err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	return &driver{os.Getenv("THING"), nc, js, newCloud(os.Getenv("FLEETS_URL"))}, nil
}

// until asks again and again until the answer is yes; the last error tells why it never was.
func until(ctx context.Context, what string, ok func(context.Context) error) error {
	for {
		err := ok(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }
