package cloud

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"fleetbridge/mapping"
)

// FilterMemory remembers what a client id's session was last subscribed to, over restarts and changes of the
// configuration.
type FilterMemory interface {
	// Load returns the filters, nil if nothing is remembered.
	Load(ctx context.Context) ([]string, error)
	Save(ctx context.Context, filters []string) error
}

// memoryTimeout bounds a call of the FilterMemory. The session works without it, too.
const memoryTimeout = 5 * time.Second

// leftovers are the filters that a kept session may hold and this run does not want: those that are remembered, and
// those of the other mqtt.subscriptions, in case the memory is new. A message that matches two filters comes
// twice, and each filter counts against the broker's quota.
func leftovers(t mapping.Thing, compact bool, remembered []string) []string {
	var out []string
	wanted := mapping.Filters(t, compact)
	add := func(topic string) {
		if !slices.ContainsFunc(wanted, func(f mapping.Filter) bool { return f.Topic == topic }) && !slices.Contains(out, topic) {
			out = append(out, topic)
		}
	}
	for _, f := range mapping.Filters(t, !compact) {
		add(f.Topic)
	}
	for _, topic := range remembered {
		add(topic)
	}
	return out
}

// tidy unsubscribes a kept session from the filters of another configuration. It sends UNSUBSCRIBE before the SUBSCRIBE and
// does not wait: the broker handles them in order.
func (s *Session) tidy(ctx context.Context, l *link) {
	var wanted []string
	for _, f := range mapping.Filters(s.thing, s.cfg.Compact) {
		wanted = append(wanted, f.Topic)
	}
	if s.held == nil && s.cfg.Filters != nil {
		ctx, cancel := context.WithTimeout(ctx, memoryTimeout)
		defer cancel()
		var err error
		if s.held, err = s.cfg.Filters.Load(ctx); err != nil {
			s.log.Debug("cannot read what the session was subscribed to", "error", err)
		}
	}
	switch {
	case !l.present:
		if s.held != nil && s.away.IsZero() {
			s.log.Warn("the broker has no session of this client id, and had one when a bridge last ran here: what it had kept for this Thing is gone",
				"client_id", s.cfg.ClientID)
		}
		s.remember(ctx, wanted)
		return
	case slices.Equal(s.held, wanted):
		return
	}
	rest := leftovers(s.thing, s.cfg.Compact, s.held)
	if s.held == nil {
		s.log.Info("it is not known what the kept session is subscribed to; the filters of the other mqtt.subscriptions are unsubscribed", "filters", len(rest))
	} else {
		s.log.Info("the kept session is subscribed to what is not wanted any more; that is unsubscribed", "filters", strings.Join(rest, " "))
	}
	s.remember(ctx, append(slices.Clone(wanted), rest...)) // until the broker has answered
	l.unsubscribe(rest)
}

// tidied notes that the kept session holds nothing but what is wanted, if the broker said so before its SUBACK.
func (s *Session) tidied(ctx context.Context, l *link) {
	l.mu.Lock()
	done := l.asked > 0 && l.asked == l.forgot
	l.mu.Unlock()
	if !done {
		return
	}
	var wanted []string
	for _, f := range mapping.Filters(s.thing, s.cfg.Compact) {
		wanted = append(wanted, f.Topic)
	}
	s.remember(ctx, wanted)
}

// remember keeps the filters that the session holds.
func (s *Session) remember(ctx context.Context, filters []string) {
	if slices.Equal(s.held, filters) {
		return
	}
	s.held = filters
	if s.cfg.Filters == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, memoryTimeout)
	defer cancel()
	if err := s.cfg.Filters.Save(ctx, filters); err != nil {
		s.log.Debug("cannot keep what the session is subscribed to", "error", err)
	}
}

// unsubscribe sends as few UNSUBSCRIBE packets as the broker's limits allow, and waits for no answer. A failure
// ends the connection.
func (l *link) unsubscribe(filters []string) {
	for len(filters) > 0 {
		n, size := 0, subscribeHead
		for ; n < len(filters); n++ {
			size += 2 + len(filters[n])
			if n > 0 && l.limits.packetSize > 0 && size > l.limits.packetSize {
				break
			}
		}
		l.s.mu.Lock()
		id := uint16(0)
		if l.s.link == l {
			id = l.s.out.reserveLast()
		}
		l.s.mu.Unlock()
		if id == 0 {
			return
		}
		l.mu.Lock()
		l.asked++
		l.mu.Unlock()
		p := &packets.Unsubscribe{PacketID: id, Topics: filters[:n], Properties: &packets.Properties{}}
		if _, err := p.WriteTo(l.conn); err != nil {
			return
		}
		filters = filters[n:]
	}
}

// unsuback takes the broker's answer. 0x11, no subscription existed, is as good as success.
func (l *link) unsuback(p *packets.Unsuback) {
	l.s.mu.Lock()
	if l.s.link == l {
		l.s.out.release(p.PacketID)
	}
	l.s.mu.Unlock()
	for _, code := range p.Reasons {
		if code >= 0x80 {
			said := &brokerError{packet: "UNSUBACK", code: code}
			if p.Properties != nil {
				said.text = p.Properties.ReasonString
			}
			l.s.log.Warn("the broker keeps subscriptions of another configuration: messages may come twice; end the session there to be rid of them", "error", said.Error())
			return
		}
	}
	l.mu.Lock()
	l.forgot++
	l.mu.Unlock()
}
