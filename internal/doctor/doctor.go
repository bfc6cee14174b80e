package doctor

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local"
	"fleetbridge/mapping"
)

// Options of an examination.
type Options struct {
	// Stay keeps the doctor from connecting as the Things: another gateway may hold their sessions, which
	// can't be seen from here.
	Stay bool
	// File is where the configuration is from, for the words; it may be empty.
	File string
	// Timeout bounds one step, such as a connection or an answer. Default 10 s.
	Timeout time.Duration
	// Running is the bridge that the doctor is part of. Then nothing is asked by the address of http.listen or with a login.
	Running Bridge
	// Now is the clock that certificates and the cloud's time are compared with. Default: time.Now.
	Now func() time.Time
}

// Bridge is a bridge that runs in this process; *gateway.Gateway is one.
type Bridge interface {
	// NATS is its connection. An error says why there is none.
	NATS() (*nats.Conn, mapping.Subjects, error)
	// Ready is what /readyz says.
	Ready(context.Context) []gateway.NotReady
}

// Doctor examines what a configuration names.
type Doctor struct {
	cfg      *gateway.Config
	options  Options
	subjects mapping.Subjects
	tell     func(Finding)

	failed    bool
	unreached bool // dns, tcp or tls has failed
	bridge    presence
	nc        *nats.Conn // nil: not reached
	lent      bool       // nc is the bridge's own
	ncErr     error
	reached   map[string]bool // targets whose TCP connection worked
}

// atOnce is how many Things are looked at beside each other.
const atOnce = 8

// New prepares an examination of a configuration that gateway.Load returned. tell gets each finding, in
// order, from one goroutine at a time.
func New(cfg *gateway.Config, o Options, tell func(Finding)) (*Doctor, error) {
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	subjects, err := mapping.NewSubjects(cfg.NATS.Prefix)
	if err != nil {
		return nil, fmt.Errorf("nats.prefix: %w", err)
	}
	return &Doctor{cfg: cfg, options: o, subjects: subjects, tell: tell, reached: map[string]bool{}}, nil
}

// Run makes every check in order and reports whether none failed. A check that needs another one's success
// is skipped after its failure; the others go on. When ctx ends, what is left is skipped. The store
// directory is locked meanwhile, so that a bridge that would be disturbed can't start.
func (d *Doctor) Run(ctx context.Context) (healthy bool) {
	d.config()
	d.secrets()
	release := d.findBridge(ctx)
	defer release()
	defer func() {
		if d.nc != nil && !d.lent {
			d.nc.Close()
		}
	}()
	targets := d.targets()
	d.network(ctx, targets)
	d.clock(ctx)
	visits := d.sessions(ctx)
	d.queues(ctx, visits)
	d.api(ctx)
	d.nats(ctx)
	d.jetStream(ctx)
	d.disk(ctx)
	return !d.failed
}

func (d *Doctor) add(f Finding) {
	d.failed = d.failed || f.Status == Fail
	switch f.Check {
	case checkDNS, checkTCP, checkTLS:
		d.unreached = d.unreached || f.Status == Fail
	}
	d.tell(f)
}

// config tells the warnings of a configuration that is valid.
func (d *Doctor) config() {
	for _, w := range d.cfg.Warnings {
		d.add(Finding{Status: Warn, Check: checkConfig, Detail: w.String()})
	}
	if len(d.cfg.Warnings) == 0 {
		d.ok(checkConfig, d.options.File, "valid")
	}
}

// Shorthands of add.

func (d *Doctor) ok(check, subject, format string, args ...any) {
	d.add(Finding{Status: OK, Check: check, Subject: subject, Detail: fmt.Sprintf(format, args...)})
}

func (d *Doctor) skip(check, subject, why string) {
	d.add(Finding{Status: Skip, Check: check, Subject: subject, Detail: why})
}

// over skips a check when there is no time left for it.
func (d *Doctor) over(ctx context.Context, check string) bool {
	if ctx.Err() == nil {
		return false
	}
	if d.options.Running != nil {
		d.skip(check, "", "no time left")
	} else {
		d.skip(check, "", "no time left; give more with --timeout")
	}
	return true
}

// step bounds one step.
func (d *Doctor) step(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d.options.Timeout)
}

// storeConfig is what the bridge would open its store with, as far as it can be looked at.
func (d *Doctor) storeConfig() local.StoreConfig {
	n := d.cfg.NATS
	out := local.StoreConfig{
		Subjects: d.subjects, Replicas: n.Replicas, Embedded: d.embedded(),
		Up:   int64(n.Up.MaxBytes),
		Down: local.Limits{MaxBytes: int64(n.Down.MaxBytes), MaxAge: n.Down.MaxAge},
	}
	for _, t := range d.cfg.Things {
		out.Things = append(out.Things, mapping.Thing(t.Name))
	}
	return out
}

func (d *Doctor) embedded() bool { return d.cfg.NATS.URL == "" }

// quiet is a log for parts whose errors become findings.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
