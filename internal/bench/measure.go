package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"fleetbridge/internal/flow"
)

// Path is what lies between the two ends of a measurement.
type Path interface {
	// Open connects both ends for a load. Everything that comes out is told to got, also what is not of
	// the measurement; fail is called for a message that was refused instead.
	Open(ctx context.Context, l Load, got func(payload []byte), fail func()) (Ends, error)
}

// Ends send a load.
type Ends interface {
	// Send sends a Thing's message. It may wait while the way is full; the payload is copied.
	Send(thing int, number int64, payload []byte) error
	Close()
}

// Counted are Ends that can't see messages arrive, and only know how many did.
type Counted interface {
	Count(ctx context.Context) (int64, error)
}

// Subject is the process that is measured.
type Subject interface {
	Usage() (Usage, error)
}

// Progress is told a few times a second, from another goroutine than Measure's.
type Progress func(done float64, ended int64)

// Result is what a measurement found.
type Result struct {
	Load     Load
	Elapsed  time.Duration           // of the measured part
	Messages int64                   // that arrived in it
	Latency  *hdrhistogram.Histogram // microseconds; empty when arrivals were only counted
	Subject  Usage                   // what the bridge spent in it
	Own      Usage                   // what this process spent in it: the load, and a built-in broker
	Lost     int64                   // sent and not arrived 10 s after the last, of the whole run
	Failed   int64                   // refused, of the whole run
	Repeated int64                   // arrived again, of the whole run
	Disorder int64                   // times that a message overtook another of its Thing, of the whole run
}

// Rate is in messages a second.
func (r Result) Rate() float64 { return float64(r.Messages) / r.Elapsed.Seconds() }

// Percentile of the latency; 100 is the longest.
func (r Result) Percentile(p float64) time.Duration {
	if p == 100 {
		return time.Duration(r.Latency.Max()) * time.Microsecond
	}
	return time.Duration(r.Latency.ValueAtPercentile(p)) * time.Microsecond
}

// Each is processor time divided by messages.
func (r Result) Each(u Usage) time.Duration {
	if r.Messages == 0 {
		return 0
	}
	return u.CPU / time.Duration(r.Messages)
}

// drainTime is how long the last messages may take.
const drainTime = 10 * time.Second

// Gauges look on; either may be nil.
type Gauges struct {
	Subject  Subject
	Progress Progress
}

// Measure sends a load over a path and returns when everything has arrived.
func Measure(ctx context.Context, l Load, path Path, g Gauges) (Result, error) {
	if err := l.complete(); err != nil {
		return Result{}, err
	}
	m := newMeter(l)
	ends, err := path.Open(ctx, l, m.arrived, m.fail)
	if err != nil {
		return Result{}, err
	}
	defer ends.Close()
	r := &run{load: l, meter: m, ends: ends, gauges: g}
	return r.do(ctx)
}

// run is one measurement.
type run struct {
	load   Load
	meter  *meter
	ends   Ends
	gauges Gauges
	begun  time.Time
	stop   func() // ends the sending
}

// look is the state of everything at one moment.
type look struct {
	at           time.Time
	ended        int64
	subject, own Usage
}

func (r *run) look() (l look, err error) {
	if r.gauges.Subject != nil {
		if l.subject, err = r.gauges.Subject.Usage(); err != nil {
			return l, err
		}
	}
	if l.own, err = SelfUsage(); err != nil {
		return l, err
	}
	l.at, l.ended = time.Now(), r.meter.counts().ended
	return l, nil
}

func (r *run) do(ctx context.Context) (Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := make(chan struct{})
	go func() { defer close(watch); r.watch(ctx, cancel) }()
	defer func() { cancel(nil); <-watch }()

	r.begun = time.Now()
	sending, stop := context.WithCancel(ctx)
	r.stop = stop
	defer stop()
	sent := make(chan error, 1)
	begin := func() { go func() { sent <- r.send(sending) }() }
	if r.load.Messages > 0 {
		from, err := r.look()
		if err != nil {
			return Result{}, err
		}
		begin()
		if err := r.settle(ctx, sent); err != nil {
			return Result{}, err
		}
		to, err := r.look()
		return r.result(from, to, r.meter.snapshot()), err
	}
	begin()
	if flow.Sleep(ctx, r.load.Warmup) != nil {
		return Result{}, r.abort(ctx, sent)
	}
	r.meter.reset()
	from, err := r.look()
	if err != nil {
		return Result{}, err
	}
	if flow.Sleep(ctx, r.load.Duration) != nil {
		return Result{}, r.abort(ctx, sent)
	}
	to, err := r.look()
	if err != nil {
		return Result{}, err
	}
	latency := r.meter.snapshot()
	stop()
	err = r.settle(ctx, sent)
	return r.result(from, to, latency), err
}

// abort ends the sender, which may wait for somebody who does nothing any more, or for room that what was
// lost never makes.
func (r *run) abort(ctx context.Context, sent <-chan error) error {
	r.stop()
	r.ends.Close()
	<-sent
	return context.Cause(ctx)
}

// settle waits for the sender and then for what is under way, as long as something arrives.
func (r *run) settle(ctx context.Context, sent <-chan error) error {
	var all <-chan struct{}
	for before := int64(-1); ; {
		timer := time.NewTimer(drainTime)
		select {
		case err := <-sent:
			if err != nil {
				return err
			}
			sent, all = nil, r.meter.finish()
		case <-all:
			return context.Cause(ctx)
		case <-ctx.Done():
			if sent != nil {
				return r.abort(ctx, sent)
			}
			return context.Cause(ctx)
		case <-timer.C:
			ended := r.meter.counts().ended
			if ended != before {
				before = ended
				continue
			}
			if sent != nil {
				_ = r.abort(ctx, sent) // what it could not send any more counts as lost
			}
			return nil
		}
		timer.Stop()
	}
}

func (r *run) result(from, to look, latency *hdrhistogram.Histogram) Result {
	c := r.meter.counts()
	return Result{
		Load: r.load, Elapsed: to.at.Sub(from.at), Messages: to.ended - from.ended, Latency: latency,
		Subject: to.subject.Since(from.subject), Own: to.own.Since(from.own),
		Lost: c.sent - c.ended, Failed: c.failed, Repeated: c.repeated, Disorder: c.disorder,
	}
}

// watch asks those who only count, and tells of progress.
func (r *run) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	counted, _ := r.ends.(Counted)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if counted != nil {
			n, err := counted.Count(ctx)
			if err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("counting messages: %w", err))
				return
			}
			r.meter.counted(n)
		}
		if r.gauges.Progress != nil && i%4 == 0 {
			r.gauges.Progress(r.done(), r.meter.counts().ended)
		}
	}
}

// done is the share of the run that is over.
func (r *run) done() float64 {
	if r.load.Messages > 0 {
		return float64(r.meter.counts().ended) / float64(r.load.Messages)
	}
	return min(1, time.Since(r.begun).Seconds()/(r.load.Warmup+r.load.Duration).Seconds())
}
