package cloud

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"fleetbridge/mapping"
)

// refusal of a filter.
type ungranted struct {
	filter mapping.Filter
	code   byte
	words  string // the broker's own
}

// serve uses a connection until it is lost, and returns what became of it, or until ctx ends. The state says connected until its
// caller has the reason.
func (s *Session) serve(ctx context.Context, l *link) ending {
	s.change(func(st *State) {
		st.Connected, st.Subscribed, st.SessionPresent, st.Refused, st.Held = true, false, l.present, nil, ""
	})
	s.log.Info("connected", "server", l.server.String(), "session_present", l.present)
	clear(s.told)
	s.compare(l)
	s.tidy(ctx, l)
	missing, err := l.subscribe(ctx, mapping.Filters(s.thing, s.cfg.Compact))
	switch {
	case err == nil:
		s.tidied(ctx, l)
		s.subscribed(l, missing)
		s.mind(ctx, l, missing)
	case ctx.Err() == nil:
		l.conn.fail(fmt.Errorf("subscribe: %w", err))
	}
	if ctx.Err() != nil {
		l.leave(false)
	}
	<-l.client.Done()
	l.down()
	<-l.written
	return l.ending()
}

// subscribed lets messages go and calls Ready.
func (s *Session) subscribed(l *link, missing []ungranted) {
	s.granted(missing)
	text, held := "", ""
	switch {
	case l.limits.atMostOnce && !s.cfg.AllowQoS0:
		held = "the broker's Maximum QoS is 0: it acknowledges nothing, so nothing is sent to it; mqtt.allow_qos_0: true gives the promise up"
		s.log.Warn("nothing is sent", "error", held)
	case l.limits.atMostOnce:
		text = "the broker's Maximum QoS is 0: it acknowledges nothing, so messages count as delivered once written and may be lost"
	case l.weak:
		text = "the broker granted subscriptions at QoS 0 only: what it sends may be lost"
	}
	if text != "" {
		s.log.Warn("no delivery guarantee", "error", text)
	}
	if text+held != "" {
		s.change(func(st *State) { st.LastError, st.Held = text+held, held })
	}
	s.mu.Lock()
	l.subscribed = true
	s.mu.Unlock()
	l.begin()
	if s.hooks.Ready == nil {
		return
	}
	s.work.Go(func() {
		s.readyMu.Lock()
		defer s.readyMu.Unlock()
		if l.ctx.Err() == nil {
			s.hooks.Ready(l.ctx, l.present)
		}
	})
}

// mind waits for the end of the connection or of ctx, and meanwhile asks again for what is missing.
func (s *Session) mind(ctx context.Context, l *link, missing []ungranted) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := 1; ; n++ {
		var due <-chan time.Time
		if len(missing) > 0 {
			timer.Reset(s.cfg.Backoff.pause(n))
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return
		case <-l.client.Done():
			return
		case <-due:
		}
		var filters []mapping.Filter
		for _, m := range missing {
			filters = append(filters, m.filter)
		}
		still, err := l.subscribe(ctx, filters)
		if err != nil {
			if ctx.Err() == nil {
				l.conn.fail(fmt.Errorf("subscribe: %w", err))
			}
			return
		}
		missing = still
		s.granted(missing)
	}
}

// granted publishes the outcome of a SUBSCRIBE, and logs it when it differs from the last.
func (s *Session) granted(missing []ungranted) {
	var names []string
	for _, m := range missing {
		name := fmt.Sprintf("%s: 0x%02X %s", m.filter.Topic, m.code, s.subackReason(m.code))
		if m.words != "" {
			name += quoted(m.words)
		}
		names = append(names, name)
	}
	text := strings.Join(names, "; ")
	if text != s.refused {
		if s.refused = text; text != "" {
			s.log.Warn("the broker refused subscriptions; they are retried", "filters", text)
		} else {
			s.log.Info("subscribed to every filter")
		}
	}
	s.change(func(st *State) {
		st.Subscribed, st.Refused = len(missing) == 0, names
		if text != "" {
			st.LastError = "subscriptions refused: " + text
		}
	})
}

// mostGranted is the last code of a SUBACK that grants something; the others refuse, also those that MQTT does not know.
const mostGranted = 2

func (s *Session) subackReason(code byte) string {
	switch {
	case code < 0x80:
		return "not granted: MQTT has no such code for a subscription, look at the broker's log"
	case code == 0x97 && !s.cfg.Compact:
		return "quota exceeded: set mqtt.subscriptions: compact, which needs 8"
	case code == 0x97 && s.State().SessionPresent:
		return "quota exceeded: raise it to 8, or end the session at the broker: it is a kept one, and may hold filters of another program"
	case code == 0x97:
		return "quota exceeded: raise it to 8 subscriptions for the client"
	}
	return reason(inSuback, code)
}

// subscribe asks for the filters, in as few packets as the broker's limits allow, and returns those
// that were not granted. An error means that the connection is of no use.
func (l *link) subscribe(ctx context.Context, filters []mapping.Filter) (missing []ungranted, err error) {
	var batch []mapping.Filter
	size := 0
	for _, f := range filters {
		if !l.wild && strings.ContainsAny(f.Topic, "+#") {
			missing = append(missing, ungranted{filter: f, code: 0xA2})
			continue
		}
		if n := len(f.Topic) + 3; l.limits.packetSize > 0 && len(batch) > 0 && subscribeHead+size+n > l.limits.packetSize {
			if missing, err = l.ask(ctx, batch, missing); err != nil {
				return nil, err
			}
			batch, size = nil, 0
		}
		batch = append(batch, f)
		size += len(f.Topic) + 3
	}
	if len(batch) == 0 {
		return missing, nil
	}
	return l.ask(ctx, batch, missing)
}

const subscribeHead = 1 + 4 + 2 + 1 // bytes of a SUBSCRIBE before its filters, at most

// ask sends one SUBSCRIBE and appends what was refused.
func (l *link) ask(ctx context.Context, filters []mapping.Filter, missing []ungranted) ([]ungranted, error) {
	p := &paho.Subscribe{}
	for _, f := range filters {
		// Retained messages are hints at best: they come with a new subscription only.
		p.Subscriptions = append(p.Subscriptions, paho.SubscribeOptions{Topic: f.Topic, QoS: 1, NoLocal: f.NoLocal, RetainHandling: 1})
	}
	defer l.asks("SUBACK")()
	answer, err := l.client.Subscribe(ctx, p)
	if answer == nil {
		return nil, err
	}
	words := ""
	if answer.Properties != nil {
		words = answer.Properties.ReasonString
	}
	for i, f := range filters {
		code := byte(0x80)
		if i < len(answer.Reasons) {
			code = answer.Reasons[i]
		}
		l.weak = l.weak || code == 0
		if code > mostGranted {
			missing = append(missing, ungranted{f, code, words})
		}
	}
	return missing, nil
}
