// Command bench compares the bridge with what else could carry the same messages: a pass-through without
// validation or durability, which is the floor of what any bridge costs, mosquitto's own bridge, and no
// bridge at all. All run on this machine, under the same load, in turns. It prints Markdown.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"fleetbridge/internal/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// plan is what the command line asks for.
type plan struct {
	runs             int
	duration, warmup time.Duration
	calm             time.Duration // before idle is measured
	size             int
	dir              string // for stores
	inflight         int    // mosquitto's max_inflight_messages
	things           int    // of a cluster
	self             string // this program, for the processes it starts
	out              io.Writer
}

const usage = "usage: bench [flags] compare | latency | growth | profile | idle | cluster"

func run(ctx context.Context, args []string, out io.Writer) error {
	var found strings.Builder
	p := plan{warmup: time.Second, calm: calm, out: io.MultiWriter(out, &found)}
	into := ""
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&p.runs, "runs", 5, "how often each is measured; the medians are printed")
	flags.DurationVar(&p.duration, "duration", 5*time.Second, "how long each is measured, after a second to warm up")
	flags.IntVar(&p.size, "size", 300, "bytes of a payload")
	flags.StringVar(&p.dir, "dir", ".", "where stores are made: the disk matters")
	flags.IntVar(&p.inflight, "inflight", 1000, "mosquitto's max_inflight_messages")
	flags.IntVar(&p.things, "things", 10_000, "how many Things a cluster has")
	flags.StringVar(&into, "into", "", "also put what is printed between the markers of its name in this document")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 || p.runs < 1 || p.duration <= 0 {
		return errors.New(usage)
	}
	if flags.Arg(0) == workerArg {
		return bench.Work(context.WithoutCancel(ctx), os.Stdin, os.Stdout, startContender)
	}
	var err error
	if p.self, err = os.Executable(); err != nil {
		return err
	}
	if p.dir, err = os.MkdirTemp(p.dir, "fleetbridge-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(p.dir)
	what, ok := map[string]func(context.Context) error{
		"compare": p.compare, "latency": p.latency, "growth": p.growth, "profile": p.profile, "idle": p.idle, "cluster": p.cluster,
	}[flags.Arg(0)]
	if !ok {
		return errors.New(usage)
	}
	if err := what(ctx); err != nil || into == "" {
		return err
	}
	return place(into, flags.Arg(0), found.String())
}

// workerArg makes this program the process in which a contender runs.
const workerArg = "worker"

// startContender runs what a setup names.
func startContender(ctx context.Context, s bench.Setup) (bench.Contender, error) {
	switch s.Name {
	case stock, tuned:
		return startFloor(ctx, s)
	case onlyTimer:
		return startTimer(), nil
	case onlyNATS:
		return startNATS(ctx, s)
	case natsCluster:
		return startNATSCluster(ctx, s)
	}
	return bench.StartGateway(ctx, s, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
}
