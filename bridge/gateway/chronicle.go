package gateway

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of what is kept of the log for the console and for fleetbridge bundle.
const (
	maxEvents = 1000
	maxAttrs  = 12
	maxValue  = 400
)

// Event is a line of the log as it is kept.
type Event struct {
	Number  uint64            `json:"n"`
	At      time.Time         `json:"at"`
	Level   string            `json:"level"`
	Message string            `json:"message"`
	Thing   string            `json:"thing,omitempty"`
	Attrs   map[string]string `json:"attrs,omitempty"`
}

// chronicle keeps the last lines of the log, so that people can see what happened before they looked. It keeps only level INFO
// and up: at debug there may be thousands a second, which would push everything else out.
type chronicle struct {
	mu     sync.Mutex
	events []Event // the oldest first
	next   uint64
}

func newChronicle() *chronicle { return &chronicle{next: 1} }

// Events are the last lines of the log of level INFO and up, the oldest first, whatever log.level is.
func (g *Gateway) Events() []Event {
	g.chronicle.mu.Lock()
	defer g.chronicle.mu.Unlock()
	return slices.Clone(g.chronicle.events)
}

// logText returns Events as lines of a log.
func (g *Gateway) logText() []byte {
	var out bytes.Buffer
	lines := slog.NewTextHandler(&out, nil)
	for _, e := range g.Events() {
		var level slog.Level
		_ = level.UnmarshalText([]byte(e.Level)) // Handle has written it
		r := slog.NewRecord(e.At, level, e.Message, 0)
		if e.Thing != "" {
			r.AddAttrs(slog.String("thing", e.Thing))
		}
		for _, k := range slices.Sorted(maps.Keys(e.Attrs)) {
			r.AddAttrs(slog.String(k, e.Attrs[k]))
		}
		_ = lines.Handle(context.Background(), r) // a buffer takes it
	}
	return out.Bytes()
}

func (c *chronicle) add(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.Number = c.next
	c.next++
	if len(c.events) == maxEvents {
		c.events[0] = Event{}
		c.events = c.events[1:]
	}
	c.events = append(c.events, e)
}

// beside returns a logger that writes to log and to the chronicle.
func (c *chronicle) beside(log *slog.Logger) *slog.Logger {
	return slog.New(noting{next: log.Handler(), chronicle: c})
}

// noting is a slog.Handler that notes what it passes on.
type noting struct {
	next      slog.Handler
	chronicle *chronicle
	attrs     []slog.Attr
	group     string
}

func (n noting) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || n.next.Enabled(ctx, l)
}

func (n noting) WithAttrs(attrs []slog.Attr) slog.Handler {
	n.next = n.next.WithAttrs(attrs)
	n.attrs = slices.Clone(n.attrs)
	for _, a := range attrs {
		a.Key = n.group + a.Key
		n.attrs = append(n.attrs, a)
	}
	return n
}

func (n noting) WithGroup(name string) slog.Handler {
	n.next = n.next.WithGroup(name)
	n.group += name + "."
	return n
}

func (n noting) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		n.chronicle.add(n.event(r))
	}
	if !n.next.Enabled(ctx, r.Level) {
		return nil
	}
	return n.next.Handle(ctx, r)
}

func (n noting) event(r slog.Record) Event {
	e := Event{At: r.Time.UTC(), Level: r.Level.String(), Message: shortText(r.Message)}
	add := func(a slog.Attr) {
		switch text := shortText(a.Value.Resolve().String()); {
		case a.Key == "thing":
			e.Thing = text
		case len(e.Attrs) < maxAttrs && a.Key != "":
			if e.Attrs == nil {
				e.Attrs = map[string]string{}
			}
			e.Attrs[a.Key] = text
		}
	}
	for _, a := range n.attrs {
		add(a)
	}
	r.Attrs(func(a slog.Attr) bool {
		a.Key = n.group + a.Key
		add(a)
		return true
	})
	return e
}

// shortText shortens a text. The result is a copy, so that the whole text can be freed.
func shortText(s string) string {
	if len(s) > maxValue {
		s = strings.ToValidUTF8(s[:maxValue], "") + "…"
	}
	return s
}
