package cloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// Session owns one Thing's MQTT session: it is the down pump's source, the up pumps' sink, and the
// core's Link. Run connects and keeps connecting; the other methods may be used before and meanwhile.
type Session struct {
	thing mapping.Thing
	cfg   Config
	hooks Hooks
	log   *slog.Logger
	// How names and connections are made.
	resolve func(ctx context.Context, network, host string) ([]netip.Addr, error)
	dial    func(context.Context, dialing) (net.Conn, error)

	inbox *inbox
	// Places for messages handed over, a pool for each lane.
	places [laneCount]chan struct{}

	mu       sync.Mutex // guards what follows
	out      *outbound
	link     *link  // the connection that out may send on
	stands   stands // what of out stands still, as it was last published
	sessions int    // counts the broker's sessions, from 1
	path     server // that the last connection led to

	stateMu sync.Mutex // held while the hook runs, so that changes arrive in order
	valueMu sync.Mutex
	state   State

	readyMu sync.Mutex // held by the Ready hook
	work    sync.WaitGroup
	// Only for Run's goroutine: what is known of the servers, and what was last logged.
	roster  roster
	told    map[string]bool // reasons why it can't connect that were logged in this outage
	refused string
	small   bool      // connections get small segments
	kept    string    // the warning that the broker keeps the session for less time than asked for
	away    time.Time // since when there is no connection; zero: there was none
	// When the last permit was asked for. It was given after that.
	permittedAt time.Time
	held        []string // filters that the session holds; nil: not known; only for Run's goroutine
}

// NewSession prepares a session. Nothing is opened before Run.
func NewSession(thing mapping.Thing, cfg Config, hooks Hooks, log *slog.Logger) *Session {
	cfg = cfg.withDefaults()
	s := &Session{
		thing: thing, cfg: cfg, hooks: hooks, log: log.With("thing", string(thing)), resolve: lookup, dial: dial,
		inbox: newInbox(cfg.Memory),
		state: State{Since: time.Now()}, told: map[string]bool{},
	}
	for i := range s.places {
		s.places[i] = make(chan struct{}, cfg.Window)
	}
	r := rules{window: cfg.Window, ackTimeout: cfg.AckTimeout, delay: cfg.Backoff.pause, qos0: cfg.AllowQoS0}
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
		after.LastError == before.LastError && after.Held == before.Held && slices.Equal(after.Refused, before.Refused) &&
		slices.Equal(after.Standing, before.Standing) {
		return
	}
	s.valueMu.Lock()
	s.state = after
	s.valueMu.Unlock()
	if s.hooks.State != nil {
		s.hooks.State(after)
	}
}

// StopTaking must be called when nobody takes deliveries any more. From then on messages are read and not acknowledged, so
// the broker keeps them, and the reader still sees the PUBACKs of what is in flight upwards.
func (s *Session) StopTaking() { s.inbox.close() }

// Run holds the session until ctx ends, over as many connections as it takes, and returns nil when
// everything that it started has ended. It leaves with DISCONNECT 0x00; the broker keeps the session.
// What is unacknowledged by then is never completed: its source still has it. Run is called once.
func (s *Session) Run(ctx context.Context) error {
	pause := pauses{rules: s.cfg.Backoff}
	for ctx.Err() == nil {
		list := s.servers(ctx)
		var l *link
		err := s.permit(ctx)
		if err == nil {
			l, err = s.connect(ctx, list)
		}
		if ctx.Err() != nil {
			if l != nil {
				l.leave(false)
			}
			break
		}
		if err != nil {
			s.unreachable(err)
			var answered *serverError
			_ = flow.Sleep(ctx, pause.refused(errors.As(err, &answered)))
			continue
		}
		e := s.serve(ctx, l)
		if ctx.Err() != nil {
			break
		}
		s.away = e.at
		if e.still() {
			s.useSmallSegments()
		}
		e.another = s.judge(list, l.server, e, pause.barren > 0)
		d := pause.lost(e)
		s.dropped(e, pause.flaps, d)
		s.mu.Lock()
		s.out.cautious = pause.barren > 1 || e.still() // one connection that was cut says nothing: links break
		s.mu.Unlock()
		_ = flow.Sleep(ctx, d)
	}
	s.work.Wait()
	s.inbox.memory.close()
	s.change(func(st *State) { st.Connected, st.Subscribed, st.Held = false, false, "" })
	return nil
}

// permitLife is how old a permit may be when CONNECT is sent.
const permitLife = 2 * time.Second

// permit waits until a connection may be made.
func (s *Session) permit(ctx context.Context) error {
	if s.cfg.Permit == nil {
		return nil
	}
	s.permittedAt = time.Now()
	return s.cfg.Permit(ctx)
}

// connect tries every server once, in the roster's order.
func (s *Session) connect(ctx context.Context, list []server) (*link, error) {
	if len(list) == 0 {
		return nil, errors.New("mqtt.server: none is configured")
	}
	var failed []error
	tried := map[server]bool{}
	fails := func(at server, err error) {
		if tried[at] {
			return
		}
		tried[at] = true
		s.roster.fails(list, at, time.Now())
		failed = append(failed, fmt.Errorf("%s: %w", at, withMend(err, "mqtt.tls")))
	}
	pass := s.roster.pass(list, time.Now())
	for i, at := range pass {
		if tried[at] {
			continue
		}
		try := &attempt{server: at}
		try.silent, try.tcp = s.roster.patience(list, at, s.cfg.ConnectTimeout)
		for _, o := range pass[i+1:] {
			if o.url == at.url && !tried[o] {
				try.others = append(try.others, o.addr)
			}
		}
		l, err := s.open(ctx, try)
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if late := noHandshake(0); errors.As(err, &late) {
			s.useSmallSegments()
		}
		for _, m := range try.missed {
			fails(server{at.url, m.addr}, m.err)
		}
		fails(try.server, err)
	}
	return nil, errors.Join(failed...)
}

// useSmallSegments makes connections with small TCP segments from now on, because one has stalled and the link may lose
// large packets. On a link that does not, this costs a hundredth.
func (s *Session) useSmallSegments() {
	if !s.small {
		s.small = true
		s.log.Info("a connection stalled; TCP segments are small from now on, as a tunnel may lose large ones", "bytes", segmentLeast)
	}
}

// judge decides from the end of a connection whether to stay with the server or to go on to another one: this one did not
// work, or sends its clients away. another reports whether the list has one to try at once.
func (s *Session) judge(list []server, at server, e ending, again bool) (another bool) {
	if !e.leaves(again) {
		s.roster.works(at)
		return false
	}
	another = s.roster.fails(list, at, time.Now())
	if to := e.reference(); to != "" {
		s.roster.named(list, to)
	}
	if another {
		s.log.Info("another server of the list is tried", "left", at.String(), "next", s.roster.next.String())
	}
	return another
}

// compare warns when the broker keeps the session for less time than asked for, or has lost it.
func (s *Session) compare(l *link) {
	s.mu.Lock()
	again := l.session > 1
	s.mu.Unlock()
	if !l.present && again && !s.away.IsZero() {
		s.log.Warn("the broker has lost the session: what it had kept for this Thing is gone", "away", time.Since(s.away).Round(time.Second))
	}
	kept := s.cfg.SessionExpiry
	if l.expiry != nil {
		kept = min(kept, time.Duration(*l.expiry)*time.Second)
	}
	text := ""
	if kept < s.cfg.SessionExpiry {
		text = fmt.Sprintf("the broker keeps the session for %v, mqtt.session_expiry asks for %v: what comes for a gateway that is away longer is lost",
			kept, s.cfg.SessionExpiry)
	}
	if again := text == s.kept; again || text == "" {
		s.kept = text
		return
	}
	s.kept = text
	s.log.Warn("the session is kept for less than asked", "error", text)
	s.change(func(st *State) { st.LastError = text })
}

// toldMax is how many different reasons one outage logs. They may alternate, as with several addresses.
const toldMax = 8

// unreachable logs that an attempt failed: each reason once in an outage.
func (s *Session) unreachable(err error) {
	text := oneLine(err)
	s.change(func(st *State) { st.LastError = "cannot connect: " + text })
	if !s.told[text] && len(s.told) < toldMax {
		s.told[text] = true
		s.log.Warn("cannot connect", "error", text)
	}
}

// dropped logs that the connection is lost, at a lower level when this happens again and again.
func (s *Session) dropped(e ending, flaps int, pause time.Duration) {
	text := oneLine(e.cause)
	clear(s.told)
	switch {
	case e.takenOver():
		text = fmt.Sprintf("another client connected with the client id %q and took the session over: "+
			"give every Thing one bridge, and no other client its id", s.cfg.ClientID)
		s.log.Warn("session taken over", "client_id", s.cfg.ClientID, "error", text, "pause", pause.Round(time.Second))
	case flaps == quickFlaps && e.wordless():
		s.log.Warn("connection lost again and again; does another client use the client id?",
			"client_id", s.cfg.ClientID, "error", text)
	case flaps == quickFlaps:
		s.log.Warn("connection lost again and again", "error", text, "pause", pause.Round(time.Second))
	case flaps < quickFlaps:
		s.log.Warn("connection lost", "error", text)
	default:
		s.log.Info("connection lost", "error", text)
	}
	s.change(func(st *State) {
		st.Connected, st.Subscribed, st.Held, st.LastError = false, false, "", "connection lost: "+text
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
