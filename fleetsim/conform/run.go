package conform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"fleetbridge/fleetsim"
	"fleetbridge/internal/flow"
)

// Options of a run. Device is needed; the rest has defaults.
type Options struct {
	Device  Device
	Thing   string   // default conform device.é, a name that has to be escaped
	Program []string // command and arguments; empty: somebody else runs the program, and what needs a start or a stop is skipped

	// A program speaks MQTT to the broker, or with one of these NATS to a bridge.
	Bridge string // the built fleetbridge, which is started
	Login  bool   // with Bridge: programs need a login
	NATS   string // URL of a bridge that somebody else has connected to the broker of Listen

	Listen string // HOST:PORT of the broker; default a free port of 127.0.0.1
	HTTP   string // HOST:PORT of the HTTP API; the same
	Like   fleetsim.Traits

	Patience time.Duration // for what should happen at once; default 30 s
	Settle   time.Duration // for how long what must not happen is watched for; default 1 s
	Outage   time.Duration // of the link; default 6 s: longer than programs wait for an acknowledgement

	Out    io.Writer    // a line a check as it ends
	Output io.Writer    // what the program and the bridge print; nil: only its end, when something fails
	Record io.Writer    // every message of the program, one JSON object a line
	Log    *slog.Logger // the simulator's
}

// Result is what came of one check.
type Result struct {
	Check   string
	Must    string // what the program must do
	Took    time.Duration
	Failure string // empty: it does
	Skipped string // why it was not looked at
}

// Report is what came of all.
type Report struct {
	Name    string
	Results []Result
	Output  string // the end of what the program printed
}

// Failed counts.
func (r Report) Failed() (n int) {
	for _, c := range r.Results {
		if c.Failure != "" {
			n++
		}
	}
	return n
}

// Skipped counts, too.
func (r Report) Skipped() (n int) {
	for _, c := range r.Results {
		if c.Skipped != "" {
			n++
		}
	}
	return n
}

// The simulator's keys.
const apiKey, apiSecret = "key", "secret"

// run is one under way.
type run struct {
	Options
	sim     *fleetsim.Sim
	link    *fleetsim.Link
	bridge  *bridge
	nats    string // host:port of the NATS server; empty: MQTT
	program *process
	printed *tail
	desired int    // how many of the device's patches were set
	unknown string // id of a command that nobody serves
}

// skip is why a check was not done.
type skip struct{ reason string }

func (s *skip) Error() string { return s.reason }

// lost is an error that waiting does not mend.
type lost struct{ error }

func (l *lost) Unwrap() error { return l.error }

// Run takes a program through the list. The error is about what is not the program's fault.
func Run(ctx context.Context, o Options) (report Report, err error) {
	fill(&o)
	r := &run{Options: o, printed: &tail{to: o.Output}}
	report = Report{Name: strings.Join(o.Program, " ")}
	defer func() { report.Output = r.printed.String() }()
	defer r.close()
	if err := r.open(ctx); err != nil {
		return report, err
	}
	for _, c := range checks {
		began := time.Now()
		err := r.check(ctx, c)
		if ctx.Err() != nil {
			return report, context.Cause(ctx)
		}
		result := Result{Check: c.name, Must: c.must, Took: time.Since(began)}
		var skipped *skip
		switch {
		case errors.As(err, &skipped):
			result.Skipped = skipped.reason
		case err != nil:
			result.Failure = err.Error()
		}
		report.Results = append(report.Results, result)
		result.print(o.Out)
	}
	return report, r.record()
}

func fill(o *Options) {
	defaults := func(d *time.Duration, n time.Duration) {
		if *d == 0 {
			*d = n
		}
	}
	defaults(&o.Patience, 30*time.Second)
	defaults(&o.Settle, time.Second)
	defaults(&o.Outage, 6*time.Second)
	if o.Thing == "" {
		o.Thing = "conform device.é"
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
}

// open starts everything.
func (r *run) open(ctx context.Context) (err error) {
	r.sim, err = fleetsim.New(fleetsim.Options{
		Log: r.Log, Things: []string{r.Thing}, HTTPListen: r.HTTP, APIKey: apiKey, APISecret: apiSecret,
		Embedded: fleetsim.BrokerOptions{Like: r.Like, Listen: r.brokerListen()},
	})
	if err != nil {
		return err
	}
	go func() { _ = r.sim.Run(ctx) }() // ends with Close
	if err := r.sim.WaitReady(ctx); err != nil {
		return err
	}
	if r.Bridge != "" {
		if err := r.configureBridge(); err != nil {
			return err
		}
		if err := r.bridge.start(ctx, r.Patience); err != nil {
			return err
		}
	}
	if err := r.openLink(); err != nil {
		return err
	}
	if len(r.Program) == 0 {
		fmt.Fprintf(r.Out, "connect your program now:")
		for _, variable := range r.environment() {
			fmt.Fprintf(r.Out, " %q", variable)
		}
		fmt.Fprintln(r.Out)
		return nil
	}
	return r.startProgram()
}

// brokerListen is where the broker itself listens: behind the link, unless a bridge of somebody else's needs it.
func (r *run) brokerListen() string {
	if r.NATS != "" {
		return r.Listen
	}
	return ""
}

func (r *run) startProgram() (err error) {
	r.program, err = startProcess("the program", r.Program, r.environment(), r.printed)
	return err
}

func (r *run) close() {
	r.program.kill()
	r.bridge.close()
	if r.link != nil {
		_ = r.link.Close()
	}
	if r.sim != nil {
		_ = r.sim.Close()
	}
}

func (r *run) check(ctx context.Context, c check) error {
	switch {
	case c.starts && len(r.Program) == 0:
		return &skip{"conform did not start the program"}
	case c.needs != nil && c.needs(r.Device) == nil:
		return &skip{"the device file does not say what to ask for"}
	}
	if r.program != nil && !c.starts {
		if err := r.program.running(); err != nil {
			if err := r.startProgram(); err != nil {
				return err
			}
			return err
		}
	}
	return c.do(r, ctx)
}

// record writes what the program sent.
func (r *run) record() error {
	if r.Record == nil {
		return nil
	}
	enc := json.NewEncoder(r.Record)
	for _, p := range r.sim.Received() {
		err := enc.Encode(struct {
			At      time.Time `json:"at"`
			Topic   string    `json:"topic"`
			Payload string    `json:"payload"`
			QoS     byte      `json:"qos"`
			Dup     bool      `json:"dup,omitempty"`
		}{p.At, p.Topic, string(p.Payload), p.QoS, p.Dup})
		if err != nil {
			return err
		}
	}
	return nil
}

// until looks every so often, until look returns nil or what can't be mended, or patience is over.
func until(ctx context.Context, patience time.Duration, look func() error) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := look()
		var final *lost
		if err == nil || errors.As(err, &final) {
			return err
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("%w (for %v)", err, patience)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// rest waits, or returns why ctx has ended.
func rest(ctx context.Context, d time.Duration) error {
	if flow.Sleep(ctx, d) != nil {
		return context.Cause(ctx)
	}
	return nil
}

// Names are those of the checks, in their order.
func Names() (names []string) {
	for _, c := range checks {
		names = append(names, c.name)
	}
	return slices.Clone(names)
}
