package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fleetbridge/bridge/gateway"
	"fleetbridge/internal/bench"
	"fleetbridge/internal/plainfile"
	"fleetbridge/mapping"
)

// benchFlags are what the command line of bench says.
type benchFlags struct {
	options      bench.Options
	channel      string
	realBroker   bool
	passwordFile string
	csv          string
}

func newBench(s streams) *cobra.Command {
	f := &benchFlags{}
	kinds := make([]string, len(bench.Kinds))
	for i, k := range bench.Kinds {
		kinds[i] = string(k)
	}
	c := &cobra.Command{
		Use:   "bench up|down|command|req",
		Short: "Measure how much this gateway can do",
		Long: `Measure how much this gateway can do:
  up       events of a program, until the broker has them
  down     deltas from the cloud, until a program has them
  command  commands from the cloud, until the handler's response is there again
  req      a program's fleets.req….jobs.get, until it has the answer

The bridge runs in a process of its own, with a store of its own that is removed again. Its CPU time is counted
apart from that of the senders and receivers, which share the machine with it. up and down keep --window messages
under way and so find the highest rate; with --rate they find the latency at that rate. The others have one
message under way at a time.

Without --config the broker is the simulator's; --broker free is one that costs next to nothing, so that what is
measured is the bridge alone. With --config it is the configured broker, and --yes-real-broker has to say that you
mean it: the Things' sessions are taken over from a running bridge, and what is sent is real. To see or send in the
cloud's name the measurement logs in there with --cloud-username, which must be allowed to use the Things' topics;
without it up counts what the broker acknowledges and shows no latency, and down and command are not possible.`,
		Example: `  fleetbridge bench up
  fleetbridge bench down --rate 5000 --size 1000 --things 10
  fleetbridge bench command --csv results.csv`,
		Args:      between(1, 1, "up, down, command or req"),
		ValidArgs: kinds,
		RunE: func(c *cobra.Command, args []string) error {
			f.options.Load.Kind = bench.Kind(args[0])
			return f.run(c, s)
		},
	}
	o := &f.options
	flags := c.Flags()
	flags.SortFlags = false
	flags.IntVar(&o.Load.Size, "size", 300, "bytes of a payload")
	flags.Float64Var(&o.Load.Rate, "rate", 0, "messages a second over all Things; 0: as fast as it goes")
	flags.IntVar(&o.Things, "things", 0, "how many Things (default 1, with --config all)")
	flags.DurationVarP(&o.Load.Duration, "duration", "d", 10*time.Second, "how long to measure, after a second to warm up")
	flags.IntVarP(&o.Load.Messages, "messages", "n", 0, "measure so many messages instead")
	flags.IntVar(&o.Load.Window, "window", 0, "messages under way at a time, without --rate (default 4096; command and req 1)")
	flags.StringVar(&f.channel, "channel", "", "what up sends: event or shadow.report; what down sends: shadow.delta or jobs.notify (default the first)")
	flags.StringVar(&o.Broker, "broker", bench.BrokerSim, "built-in broker: sim or free")
	flags.StringVar(&o.Sync, "sync", "", "nats.embedded.sync: always, or an interval (default always, or as configured)")
	flags.StringVar(&o.StoreDir, "store-dir", "", "where the store is made (default the working directory, or beside the configured one)")
	ownConfigFlag(c, &o.Config)
	flags.BoolVar(&f.realBroker, "yes-real-broker", false, "with --config: send to the broker that it names")
	flags.StringVar(&o.CloudUsername, "cloud-username", "", "login of the cloud's part at that broker")
	flags.StringVar(&f.passwordFile, "cloud-password-file", "", "`FILE` with its password")
	flags.StringVar(&o.CloudClientID, "cloud-client-id", "", "its client id (default one of its own)")
	flags.StringVar(&f.csv, "csv", "", "add the result to this table, one row a run")
	flags.StringVar(&o.Profile, "profile", "", "write a CPU profile of the bridge to this file")
	c.AddCommand(newBenchWorker(s))
	return c
}

// newBenchWorker is the process in which the measured bridge runs.
func newBenchWorker(s streams) *cobra.Command {
	return &cobra.Command{
		Use: "worker", Hidden: true, Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
			// An interrupt goes to both processes of a terminal; this one ends when the other has.
			err := bench.Work(context.WithoutCancel(c.Context()), s.in, s.out, func(ctx context.Context, b bench.Setup) (bench.Contender, error) {
				return bench.StartGateway(ctx, b, log)
			})
			if err != nil {
				return errReported // the other process says it
			}
			return nil
		},
	}
}

// check finds what can't be carried out and completes the options.
func (f *benchFlags) check(c *cobra.Command) error {
	o, l := &f.options, &f.options.Load
	kind := l.Kind
	given := c.Flags().Changed
	channels := kind.Channels()
	switch {
	case !slices.Contains(bench.Kinds, kind):
		return usagef("bench: %q is no measurement, use up, down, command or req", kind)
	case l.Rate < 0 || math.IsNaN(l.Rate) || math.IsInf(l.Rate, 0):
		return usagef("bench: --rate is %v, use messages a second, or 0 for as fast as it goes", l.Rate)
	case o.Things < 0 || given("things") && o.Things == 0:
		return usagef("bench: --things is %d, use at least 1", o.Things)
	case l.Messages < 0 || given("messages") && l.Messages == 0:
		return usagef("bench: --messages is %d, use at least 1", l.Messages)
	case given("messages") && given("duration"):
		return usagef("bench: --messages and --duration exclude each other")
	case l.Duration <= 0:
		return usagef("bench: --duration is %s, use more than 0", l.Duration)
	case l.Window < 0 || given("window") && l.Window == 0:
		return usagef("bench: --window is %d, use at least 1", l.Window)
	case given("window") && l.Rate > 0:
		return usagef("bench: --window and --rate exclude each other: at a rate messages are sent when they are due")
	case given("channel") && !slices.Contains(channels, mapping.Channel(f.channel)):
		return usagef("bench: --channel %q: %s sends %s", f.channel, kind, join(channels, " or "))
	case o.Broker != bench.BrokerSim && o.Broker != bench.BrokerFree:
		return usagef("bench: --broker %q: use sim or free; a broker of your own is named by the configuration, with --config", o.Broker)
	}
	l.Channel, l.Warmup = channels[0], min(time.Second, l.Duration/5)
	if f.channel != "" {
		l.Channel = mapping.Channel(f.channel)
	}
	if least := bench.LeastSize(l.Channel); kind != bench.Req && l.Size < least {
		return usagef("bench: --size is %d, %s takes at least %d bytes", l.Size, l.Channel, least)
	}
	if err := new(gateway.Sync).UnmarshalText([]byte(o.Sync)); o.Sync != "" && err != nil {
		return usagef("bench: --sync: %s", err)
	}
	return f.checkReal(c, given)
}

// checkReal is about the configured broker.
func (f *benchFlags) checkReal(c *cobra.Command, given func(string) bool) error {
	o := &f.options
	if o.Config == "" {
		for _, name := range []string{"yes-real-broker", "cloud-username", "cloud-password-file", "cloud-client-id"} {
			if given(name) {
				return usagef("bench: --%s is about a real broker, name the configuration with --config", name)
			}
		}
		return nil
	}
	login := o.CloudUsername != "" || o.CloudClientID != ""
	switch {
	case !f.realBroker:
		return usagef("bench: --config sends real messages to the configured broker, in the names of its Things, and takes their sessions over; say --yes-real-broker if you mean it, or leave --config out to measure against a built-in broker")
	case given("broker"):
		return usagef("bench: --broker and --config exclude each other")
	case f.passwordFile != "" && o.CloudUsername == "":
		return usagef("bench: --cloud-password-file needs --cloud-username")
	case !login && (o.Load.Kind == bench.Down || o.Load.Kind == bench.Command):
		return usagef("bench: %s at a real broker is sent in the cloud's name; name a login that may publish to the Things' topics with --cloud-username", o.Load.Kind)
	}
	o.Broker = bench.BrokerReal
	if _, err := loadConfig(c, &o.Config); err != nil {
		return err
	}
	if f.passwordFile == "" {
		return nil
	}
	secret, err := plainfile.Read(f.passwordFile, "secret", 64<<10)
	if err != nil {
		return fmt.Errorf("--cloud-password-file: %w", err)
	}
	o.CloudPassword = strings.TrimSuffix(strings.TrimSuffix(string(secret.Data), "\n"), "\r")
	return nil
}

func (f *benchFlags) run(c *cobra.Command, s streams) (err error) {
	if err := f.check(c); err != nil {
		return err
	}
	o := f.options
	var table *bench.CSV
	if f.csv != "" {
		if table, err = bench.OpenCSV(f.csv); err != nil {
			return fmt.Errorf("--csv: %w", err)
		}
		defer func() { err = errors.Join(err, table.Close()) }()
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("starting the bridge's process: %w", err)
	}
	o.Worker, o.Log = []string{self, "bench", "worker"}, s.err
	bar := newBar(s.err, coloured(s.err, os.Getenv))
	o.Progress = bar.show
	result, err := bench.Run(c.Context(), o)
	bar.clear()
	switch {
	case c.Context().Err() != nil:
		return errors.New("bench: interrupted")
	case err != nil:
		return fmt.Errorf("bench: %w", err)
	}
	if err := bench.Report(s.out, result, o.Broker); err != nil {
		return err
	}
	if table != nil {
		if err := table.Add(time.Now(), result, o.Broker); err != nil {
			return fmt.Errorf("--csv: %w", err)
		}
	}
	if err := result.Sound(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// bar shows how far a measurement is, on a terminal.
type bar struct {
	out   io.Writer
	shown bool
	at    time.Time
	ended int64
}

// newBar makes a bar that shows nothing unless the output is a terminal.
func newBar(out io.Writer, terminal bool) *bar {
	if !terminal {
		out = io.Discard
	}
	return &bar{out: out, at: time.Now()}
}

const barWidth = 30

func (b *bar) show(done float64, ended int64) {
	now := time.Now()
	rate := float64(ended-b.ended) / now.Sub(b.at).Seconds()
	b.at, b.ended, b.shown = now, ended, true
	full := int(min(max(done, 0), 1) * barWidth)
	fmt.Fprintf(b.out, "\r\033[K[%s%s] %3.0f %%  %.0f/s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), 100*done, rate)
}

func (b *bar) clear() {
	if b.shown {
		_, _ = fmt.Fprint(b.out, "\r\033[K")
	}
}

func join[T ~string](list []T, sep string) string {
	words := make([]string, len(list))
	for i, x := range list {
		words[i] = string(x)
	}
	return strings.Join(words, sep)
}
