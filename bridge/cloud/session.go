package cloud

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// Session owns one Thing's MQTT session: it is the down pump's source, the up pumps' sink, and the
// core's Link. Run connects and keeps connecting; the other methods may be used before and meanwhile.
type Session struct {
	thing mapping.Thing
	cfg   Config
	hooks Hooks
	log   *slog.Logger
	dial  func(context.Context, *url.URL, *tls.Config) (net.Conn, error)

	inbox *inbox
	// Places for messages handed over, a pool for each class and one for questions.
	places    [len(mapping.Classes)]chan struct{}
	questions chan struct{}

	mu       sync.Mutex // guards what follows
	out      *outbound
	link     *link // the connection that out may send on
	sessions int   // counts the broker's sessions, from 1

	stateMu sync.Mutex // held while the hook runs, so that changes arrive in order
	valueMu sync.Mutex
	state   State

	good    int        // the server that worked last
	readyMu sync.Mutex // held by the Ready hook
	work    sync.WaitGroup
	// What was last logged of an outage and of refused filters; only for Run's goroutine.
	told    map[string]bool // reasons why it can't connect, of this outage
	refused string
}

// NewSession prepares a session. Nothing is opened before Run.
func NewSession(thing mapping.Thing, cfg Config, hooks Hooks, log *slog.Logger) *Session {
	cfg = cfg.withDefaults()
	s := &Session{
		thing: thing, cfg: cfg, hooks: hooks, log: log.With("thing", string(thing)), dial: Dial,
		inbox: newInbox(int(cfg.ReceiveMaximum)), questions: make(chan struct{}, cfg.Window),
		state: State{Since: time.Now()}, told: map[string]bool{},
	}
	for i := range s.places {
		s.places[i] = make(chan struct{}, cfg.Window)
	}
	r := rules{window: cfg.Window, ackTimeout: cfg.AckTimeout, delay: cfg.Backoff.pause}
	if cfg.MaxPublishRate > 0 {
		r.interval = time.Duration(float64(time.Second) / cfg.MaxPublishRate)
	}
	s.out = newOutbound(r)
	return s
}

// Take implements bridge.Source.
func (s *Session) Take(ctx context.Context) []bridge.Delivery { return s.inbox.take(ctx, takeMost) }

// State returns how the session stands.
func (s *Session) State() State {
	s.valueMu.Lock()
	defer s.valueMu.Unlock()
	return s.state
}

// change updates the state and tells the hook, if anything is different.
func (s *Session) change(f func(*State)) {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	before := s.State()
	after := before
	f(&after)
	if after.Connected != before.Connected {
		after.Since = time.Now()
	}
	if after.Connected == before.Connected && after.Subscribed == before.Subscribed && after.SessionPresent == before.SessionPresent &&
		after.LastError == before.LastError && slices.Equal(after.Refused, before.Refused) {
		return
	}
	s.valueMu.Lock()
	s.state = after
	s.valueMu.Unlock()
	if s.hooks.State != nil {
		s.hooks.State(after)
	}
}

// StopTaking tells that nobody takes deliveries any more. What comes goes back to the broker, so that the
// reader still sees the acknowledgements of what is in flight the other way.
func (s *Session) StopTaking() { s.inbox.close() }

// Run holds the session until ctx ends, over as many connections as it takes, and returns nil when
// everything that it started has ended. It leaves with DISCONNECT 0x00; the broker keeps the session.
// What is unacknowledged by then is never completed: its source still has it. Run is called once.
func (s *Session) Run(ctx context.Context) error {
	pause := pauses{rules: s.cfg.Backoff}
	for ctx.Err() == nil {
		l, err := s.connect(ctx)
		if ctx.Err() != nil {
			if l != nil {
				l.leave(false)
			}
			break
		}
		if err != nil {
			s.unreachable(err)
			sleep(ctx, pause.refused())
			continue
		}
		began := time.Now()
		err = s.serve(ctx, l)
		if ctx.Err() != nil {
			break
		}
		var said *brokerError
		over := errors.As(err, &said) && said.code == takenOver
		d := pause.lost(time.Since(began), over)
		s.dropped(err, over, pause.flaps, d)
		sleep(ctx, d)
	}
	s.work.Wait()
	s.change(func(st *State) { st.Connected, st.Subscribed = false, false })
	return nil
}

// connect tries every server once.
func (s *Session) connect(ctx context.Context) (*link, error) {
	var failed []error
	for i := range s.cfg.Servers {
		n := (s.good + i) % len(s.cfg.Servers)
		u := s.cfg.Servers[n]
		l, err := s.open(ctx, u)
		if err == nil {
			s.good = n
			return l, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		failed = append(failed, fmt.Errorf("%s: %w", u.Redacted(), withMend(err, "mqtt.tls")))
	}
	if len(failed) == 0 {
		return nil, errors.New("mqtt.server: none is configured")
	}
	return nil, errors.Join(failed...)
}

// toldMax bounds what an outage logs: reasons may alternate, as with several addresses.
const toldMax = 8

// unreachable tells of an attempt that failed: each reason once in an outage.
func (s *Session) unreachable(err error) {
	text := oneLine(err)
	s.change(func(st *State) { st.LastError = "cannot connect: " + text })
	if !s.told[text] && len(s.told) < toldMax {
		s.told[text] = true
		s.log.Warn("cannot connect", "error", text)
	}
}

// dropped tells of a lost connection. The log is told less of a link that flaps.
func (s *Session) dropped(err error, over bool, flaps int, pause time.Duration) {
	text := oneLine(err)
	clear(s.told)
	switch {
	case over:
		text = fmt.Sprintf("another client connected with the client id %q and took the session over: "+
			"give every Thing one bridge, and no other client its id", s.cfg.ClientID)
		s.log.Warn("session taken over", "client_id", s.cfg.ClientID, "error", text, "pause", pause.Round(time.Second))
	case flaps == quickFlaps:
		s.log.Warn("connection lost again and again; does another client use the client id?",
			"client_id", s.cfg.ClientID, "error", text)
	case flaps < quickFlaps:
		s.log.Warn("connection lost", "error", text)
	default:
		s.log.Info("connection lost", "error", text)
	}
	s.change(func(st *State) {
		st.Connected, st.Subscribed, st.LastError = false, false, "connection lost: "+text
	})
}

// oneLine joins the lines of joined errors.
func oneLine(err error) string {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		text := ""
		for i, e := range many.Unwrap() {
			if i > 0 {
				text += "; "
			}
			text += e.Error()
		}
		return text
	}
	return err.Error()
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
