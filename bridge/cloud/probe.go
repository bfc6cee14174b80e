package cloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// Probe is one connection that finds out what a broker grants a Thing, and leaves the session as it was.
// It connects as a Session does, so whoever has the session loses it: ask only while nobody runs it.
// Messages that wait in the session are not acknowledged, so the broker brings them to the next
// connection; only QoS 0 ones, which nothing acknowledges, are gone. A session that was not there is ended.
type Probe struct {
	s      *Session
	l      *link
	stop   context.CancelFunc
	token  string
	answer chan bridge.Delivery
}

// probeWindow is how many messages the broker may send a probe. They are sent for nothing, perhaps over a
// link that is paid for by the byte, but an answer comes behind them.
const probeWindow = 64

// OpenProbe connects to one server. The error names the mend where there is one. Nothing is retried.
func OpenProbe(ctx context.Context, t mapping.Thing, cfg Config, u *url.URL) (*Probe, error) {
	cfg.ReceiveMaximum = probeWindow
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	p := &Probe{
		s: NewSession(t, cfg, Hooks{}, slog.New(slog.DiscardHandler)), stop: stop,
		token: fmt.Sprintf("fleetbridge-doctor-%x", time.Now().UnixNano()), answer: make(chan bridge.Delivery, 1),
	}
	p.s.inbox.memory.lift() // probeWindow is bound enough, and nothing is kept
	p.s.work.Go(func() { p.read(inner) })
	var err error
	if p.l, err = p.s.open(ctx, &attempt{server: server{url: u}, silent: p.s.cfg.ConnectTimeout}); err != nil {
		stop()
		p.s.work.Wait()
		return nil, err
	}
	return p, nil
}

// read takes what comes and keeps it from being acknowledged, but for the probe's own answer.
func (p *Probe) read(ctx context.Context) {
	alone := true
	for ctx.Err() == nil {
		for _, d := range p.s.Take(ctx) {
			if !p.asked(d) {
				alone = false
				continue
			}
			// If others came before it, which are not settled, the answer stays at the broker, too. It then comes to
			// everybody at the next start of a Session.
			if alone {
				d.Settle()
			}
			select {
			case p.answer <- d:
			default: // one is enough
			}
		}
	}
}

func (p *Probe) asked(d bridge.Delivery) bool {
	switch d.Address.Channel {
	case mapping.JobsGetAccepted, mapping.JobsGetRejected:
		return gjson.GetBytes(d.Payload, "clientToken").String() == p.token
	}
	return false
}

// SessionPresent reports whether the broker had kept the Thing's session.
func (p *Probe) SessionPresent() bool { return p.l.present }

// Waiting is how many messages the broker has brought so far, at most as many as it may send
// unacknowledged; none was acknowledged. Those that came before a SUBACK are counted when Subscribe returns.
func (p *Probe) Waiting() (n int, more bool) {
	n = p.l.acks.unsettled()
	return n, n >= probeWindow
}

// Capabilities are what the broker said in its CONNACK.
type Capabilities struct {
	SessionExpiry  time.Duration // how long it keeps the session; what was asked for unless it says less
	PacketSize     int           // largest packet it takes, in bytes; 0: any
	ReceiveMaximum int           // messages in flight
	AtMostOnce     bool          // it acknowledges nothing
	Wildcards      bool
}

// Capabilities returns what the broker offers.
func (p *Probe) Capabilities() Capabilities {
	out := Capabilities{
		SessionExpiry: p.s.cfg.SessionExpiry, PacketSize: p.l.limits.packetSize, ReceiveMaximum: p.l.limits.receiveMaximum,
		AtMostOnce: p.l.limits.atMostOnce, Wildcards: p.l.wild,
	}
	if p.l.expiry != nil {
		out.SessionExpiry = time.Duration(*p.l.expiry) * time.Second
	}
	return out
}

// Grant is the broker's answer to one filter.
type Grant struct {
	Filter string
	Code   byte   // of the SUBACK: 0 to 2 is the granted QoS, else a refusal
	Reason string // of a refusal, with the mend where there is one
}

// Refused reports whether the broker granted nothing.
func (g Grant) Refused() bool { return g.Code > mostGranted }

// Subscribe asks for every filter that the Thing needs, each in a SUBSCRIBE of its own. On a session
// that has them already it changes nothing. An error means that the connection is lost.
func (p *Probe) Subscribe(ctx context.Context) ([]Grant, error) {
	var out []Grant
	for _, f := range mapping.Filters(p.s.thing, p.s.cfg.Compact) {
		p.l.weak = false
		missing, err := p.l.subscribe(ctx, []mapping.Filter{f})
		if err != nil {
			return out, fmt.Errorf("subscribe %s: %w", f.Topic, p.cause(err))
		}
		g := Grant{Filter: f.Topic, Code: 1}
		switch {
		case len(missing) > 0:
			g.Code, g.Reason = missing[0].code, p.s.subackReason(missing[0].code)
		case p.l.weak:
			g.Code = 0
		}
		out = append(out, g)
	}
	p.s.mu.Lock()
	p.s.out.begin(time.Now())
	p.s.mu.Unlock()
	return out, nil
}

// Answered is what became of a question.
type Answered struct {
	Answer  []byte // nil: the broker took the question and no answer came in time
	Refused bool   // the answer is a rejection
	Took    time.Duration
}

// Question asks for the Thing's pending jobs, the one publish that changes nothing in the cloud: a report
// or an event of any kind would be stored, and start-next would start something. It waits for the answer
// until ctx ends. The error is the broker's refusal, or why the connection is lost. Call it after
// Subscribe.
func (p *Probe) Question(ctx context.Context) (Answered, error) {
	payload, err := sjson.SetBytes([]byte("{}"), "thingName", string(p.s.thing))
	if err == nil {
		payload, err = sjson.SetBytes(payload, "clientToken", p.token)
	}
	if err != nil {
		return Answered{}, err
	}
	began := time.Now()
	fate := make(chan error, 1)
	m := bridge.Message{Address: mapping.Address{Thing: p.s.thing, Channel: mapping.JobsGet}, Payload: payload, Received: began}
	if err := p.s.Ask(ctx, m, func(err error) { fate <- err }); err != nil {
		return Answered{}, err
	}
	select {
	case err := <-fate:
		if refused := (*bridge.Rejection)(nil); errors.As(err, &refused) {
			return Answered{}, err // some brokers hang up after it
		}
		if err != nil {
			return Answered{}, fmt.Errorf("jobs/get: %w", p.cause(err))
		}
	case <-ctx.Done():
		return Answered{}, p.cause(errors.New("the broker did not acknowledge the question in time"))
	}
	select {
	case d := <-p.answer:
		return Answered{Answer: d.Payload, Refused: d.Address.Channel == mapping.JobsGetRejected, Took: time.Since(began)}, nil
	case <-p.l.client.Done():
		return Answered{}, p.cause(errors.New("the connection is lost"))
	case <-ctx.Done():
		return Answered{}, nil
	}
}

// cause prefers the reason why the connection was lost, as the broker's own words.
func (p *Probe) cause(err error) error {
	if lost := p.l.conn.lost(); lost != nil {
		return lost
	}
	return err
}

// Close leaves: with DISCONNECT 0x00, which keeps a session that was there, and ends one that was not. The
// error is why the connection was lost before, such as another client with the Thing's client id.
func (p *Probe) Close() error {
	before := p.l.conn.lost()
	p.l.leave(!p.l.present)
	p.stop()
	p.s.work.Wait()
	return before
}
