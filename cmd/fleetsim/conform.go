package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fleetbridge/fleetsim"
	"fleetbridge/fleetsim/conform"
	"fleetbridge/internal/plainfile"
	"fleetbridge/mapping"
)

// conformFlags are those of the command conform.
type conformFlags struct {
	device, thing, bridge, nats, mqtt, http, like string
	junit, record, output                         string
	overNATS, login                               bool
	patience, outage                              time.Duration
}

func newConform(s streams) *cobra.Command {
	f := &conformFlags{}
	c := &cobra.Command{
		Use:   "conform --device FILE [flags] [-- PROGRAM ARGS...]",
		Short: "Check what a device program must do",
		Long: "Check whether a program does what a device program of Fleets must do. conform plays the cloud, starts the\n" +
			"program, kills it, and cuts its link. The environment says what the program needs: it is the Thing THING, and\n" +
			"connects to MQTT_URL as the client MQTT_CLIENT_ID, or with --over-nats to NATS_URL, where fleetbridge is in\n" +
			"between. Without PROGRAM, start the program yourself: conform then skips the checks that start or stop it.\n\n" +
			"The device file is JSON: \"desired\", three or more desired states; \"command\" with action, params, reported, bad;\n" +
			"\"event\", an event type; \"job\", \"longJob\", \"badJob\", job documents. See docs/conform.md.\n\n" +
			"Exit code 0: no check failed; 1: at least one failed; 2: wrong usage.",
		Example: "  fleetsim conform --device thermostat.json -- ./thermostat --verbose\n" +
			"  fleetsim conform --device thermostat.json --over-nats --junit report.xml -- python3 thermostat.py",
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, args, s) },
	}
	c.Flags().SortFlags = false
	c.Flags().StringVar(&f.device, "device", "", "`FILE` that says what the program can do")
	c.Flags().StringVar(&f.thing, "thing", "conform device.é", "the Thing's `NAME`, and its client id")
	c.Flags().BoolVar(&f.overNATS, "over-nats", false, "the program speaks NATS: start a fleetbridge in front of it")
	c.Flags().StringVar(&f.bridge, "bridge", "", "that fleetbridge, a `FILE` (default the one beside fleetsim, or in PATH)")
	c.Flags().BoolVar(&f.login, "login", false, "with --over-nats: the program needs NATS_USER and NATS_PASSWORD")
	c.Flags().StringVar(&f.nats, "nats", "", "the program speaks NATS to your own bridge at this `URL`, which connects to --mqtt and --http (key and secret: key, secret)")
	c.Flags().StringVar(&f.mqtt, "mqtt", "", "listen on this `HOST:PORT` for MQTT (default a free port)")
	c.Flags().StringVar(&f.http, "http", "", "listen on this `HOST:PORT` for the HTTP API (default a free port)")
	c.Flags().StringVar(&f.like, "like", "", "the broker behaves like this one: `NAME[,KNOB...]`, see fleetsim help like")
	c.Flags().DurationVar(&f.patience, "patience", 30*time.Second, "how long to wait for what should happen at once")
	c.Flags().DurationVar(&f.outage, "outage", 6*time.Second, "for how long the link is lost")
	c.Flags().StringVar(&f.junit, "junit", "", "write the results to this `FILE`, as JUnit does")
	c.Flags().StringVar(&f.record, "record", "", "write what the program sent to this `FILE`, one JSON object a line")
	c.Flags().StringVar(&f.output, "output", "", "write what the program and the bridge print, and the simulator's log, to this `FILE`")
	for _, name := range []string{"device", "bridge", "junit", "record", "output"} {
		_ = c.MarkFlagFilename(name)
	}
	return c
}

func (f *conformFlags) run(c *cobra.Command, args []string, s streams) (err error) {
	o, err := f.options(args)
	if err != nil {
		return &usageError{err}
	}
	o.Out = s.out
	var files []io.Closer
	create := func(name, path string) (io.Writer, error) {
		file, err := os.Create(path)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", name, err)
		}
		files = append(files, file)
		return file, nil
	}
	defer func() {
		for _, file := range files {
			err = errors.Join(err, file.Close())
		}
	}()
	if f.record != "" {
		if o.Record, err = create("record", f.record); err != nil {
			return err
		}
	}
	if f.output != "" {
		if o.Output, err = create("output", f.output); err != nil {
			return err
		}
		o.Log = slog.New(slog.NewTextHandler(o.Output, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	report, err := conform.Run(c.Context(), o)
	if f.junit != "" && len(report.Results) > 0 {
		file, err := create("junit", f.junit)
		if err != nil {
			return err
		}
		if err := report.WriteJUnit(file); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	failed := report.Failed()
	if failed == 0 {
		fmt.Fprintf(s.out, "%d checks passed, %d skipped\n", len(report.Results)-report.Skipped(), report.Skipped())
		return nil
	}
	if f.output == "" && report.Output != "" {
		fmt.Fprintf(s.out, "the program printed at last:\n")
		for line := range strings.Lines(report.Output) {
			fmt.Fprintf(s.out, "  %s\n", strings.TrimRight(line, "\n"))
		}
	}
	return fmt.Errorf("%d of %d checks failed", failed, len(report.Results))
}

// options reads the flags and the device file.
func (f *conformFlags) options(args []string) (o conform.Options, err error) {
	var wrong []error
	problem := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if f.device == "" {
		problem("--device: name the file that says what the program can do, see docs/conform.md")
	} else if data, err := plainfile.Read(f.device, "device", 1<<20); err != nil {
		problem("--device: %w", err)
	} else if o.Device, err = conform.ReadDevice(data.Data); err != nil {
		for line := range strings.Lines(err.Error()) {
			problem("--device %s: %s", f.device, strings.TrimSpace(line))
		}
	}
	if _, err := mapping.ParseThing(f.thing); err != nil {
		problem("--thing: %w", err)
	}
	for _, a := range []struct{ name, address string }{{"mqtt", f.mqtt}, {"http", f.http}} {
		if _, _, err := net.SplitHostPort(a.address); a.address != "" && err != nil {
			problem("--%s %q: write host:port", a.name, a.address)
		}
	}
	switch {
	case f.overNATS && f.nats != "":
		problem("--over-nats and --nats: leave one out, the bridge is either conform's or yours")
	case f.nats != "" && (f.mqtt == "" || f.http == ""):
		problem("--nats: name --mqtt and --http, too, which your bridge is configured with")
	case f.login && !f.overNATS:
		problem("--login: goes with --over-nats")
	case f.overNATS:
		if f.bridge, err = findBridge(f.bridge); err != nil {
			problem("--bridge: %w", err)
		}
	}
	if f.patience <= 0 || f.outage <= 0 {
		problem("--patience %v, --outage %v: must be more than nothing", f.patience, f.outage)
	}
	if f.like != "" {
		if o.Like, err = fleetsim.Like(f.like); err != nil {
			problem("--like: %w", err)
		}
	}
	if len(args) > 0 {
		if _, err := exec.LookPath(args[0]); err != nil {
			problem("the program: %w", err)
		}
	}
	o.Thing, o.Program, o.Login, o.NATS, o.Listen, o.HTTP = f.thing, args, f.login, f.nats, f.mqtt, f.http
	o.Patience, o.Outage = f.patience, f.outage
	if f.overNATS {
		o.Bridge = f.bridge
	}
	return o, errors.Join(wrong...)
}

// findBridge looks beside this program, then in PATH.
func findBridge(given string) (string, error) {
	if given == "" {
		if own, err := os.Executable(); err == nil {
			if beside, err := exec.LookPath(filepath.Join(filepath.Dir(own), "fleetbridge")); err == nil {
				return beside, nil
			}
		}
	}
	path, err := exec.LookPath(cmp.Or(given, "fleetbridge"))
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}
