package bridge

import (
	"context"
	"log/slog"
)

// Hops of a message through a pump, as the log has them at debug: one line each, never with the payload. The lines of one
// passage have its number. Without debug a hop costs one call of Enabled.
const (
	hopTaken   = "message taken"   // from its source
	hopDecided = "message decided" // the outcome says what: forwarded, or how it ends
	hopSent    = "message sent"    // the sink has taken durable charge
	hopSettled = "message settled" // the source need not hold it any longer
)

// forwarded is the outcome of a decision to send a message on.
const forwarded Outcome = "forwarded"

func (p *Pump) hop(what string, w *passage, m *Message, o Outcome) {
	if p.Log.Enabled(context.Background(), slog.LevelDebug) {
		p.say(what, w, m, o)
	}
}

func (p *Pump) say(what string, w *passage, m *Message, o Outcome) {
	attrs := []slog.Attr{slog.String("direction", p.Direction.String()), slog.Uint64("passage", w.number), slog.String("channel", string(m.Address.Channel)),
		slog.Int("bytes", len(m.Payload))}
	for _, a := range []slog.Attr{slog.String("id", m.Address.ID), slog.String("outcome", string(o)), slog.String("origin", stray(m))} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	if m.Sequence != 0 {
		attrs = append(attrs, slog.Uint64("sequence", m.Sequence))
	}
	p.Log.LogAttrs(context.Background(), slog.LevelDebug, what, attrs...)
}

// stray is where a message came on that has no address.
func stray(m *Message) string {
	if m.Address.Channel != "" {
		return ""
	}
	return m.Origin
}
