package local

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
)

// Headers of messages and requests.
const (
	HeaderThing     = "Fleets-Thing"
	HeaderChannel   = "Fleets-Channel"
	HeaderTopic     = "Fleets-Topic"
	HeaderReceived  = "Fleets-Received" // RFC 3339 with nanoseconds, UTC
	HeaderSource    = "Fleets-Source"
	HeaderErrorCode = "Fleets-Error-Code"
	HeaderError     = "Fleets-Error"
	HeaderSubject   = "Fleets-Subject"   // of a dead letter: the subject it was published on
	HeaderTruncated = "Fleets-Truncated" // of a dead letter: how many bytes the payload had
	HeaderExecution = "Fleets-Execution"
	HeaderDeadline  = "Fleets-Deadline" // RFC 3339, UTC
	HeaderWorker    = "Fleets-Worker"
	HeaderTimeout   = "Fleets-Timeout"   // a Go duration
	headerStamp     = "Fleets-Timestamp" // of a stored event without a timestamp: the one that it gets, in Unix milliseconds

	headerParent = "traceparent"
	headerState  = "tracestate"
)

// Bounds of header values, so that a message never outgrows what the server takes because of them.
const (
	maxErrorText = 1024
	maxTrace     = 1024 // the W3C asks for 512 bytes of tracestate at least
	maxLine      = 2048 // topics and subjects; a legal one has at most 1.6 KB
	// headroom is what the headers of a dead letter may need at most.
	headroom = 12 << 10
)

// oneLine makes s fit for a header: control characters become spaces, and what is longer than limit
// bytes ends in an ellipsis.
func oneLine(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
	if len(s) > limit {
		cut := limit - len("...")
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "..."
	}
	return strings.TrimSpace(s)
}

// header gets a value whatever the case of its key: HTTP-minded libraries write Traceparent.
func header(h nats.Header, key string) string {
	if v, ok := h[key]; ok && len(v) > 0 {
		return v[0]
	}
	for k, v := range h {
		if len(v) > 0 && strings.EqualFold(k, key) {
			return v[0]
		}
	}
	return ""
}

// traceOf reads the trace context. One that is too long, or no single line, is left out.
func traceOf(h nats.Header) bridge.Trace {
	if len(h) == 0 {
		return bridge.Trace{}
	}
	t := bridge.Trace{Parent: header(h, headerParent), State: header(h, headerState)}
	if !traceable(t.Parent) {
		return bridge.Trace{}
	}
	if !traceable(t.State) {
		t.State = ""
	}
	return t
}

func traceable(s string) bool {
	return len(s) <= maxTrace && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// setTrace writes the trace context, if there is one.
func setTrace(h nats.Header, t bridge.Trace) {
	if t.Parent != "" && traceable(t.Parent) {
		h[headerParent] = []string{t.Parent}
	}
	if t.State != "" && traceable(t.State) {
		h[headerState] = []string{t.State}
	}
}

// stamp writes what a message tells about itself, the same on down messages and on dead letters.
func stamp(h nats.Header, m bridge.Message) {
	if m.Address.Thing != "" {
		h.Set(HeaderThing, string(m.Address.Thing))
	}
	if m.Address.Channel != "" {
		h.Set(HeaderChannel, string(m.Address.Channel))
	}
	if !m.Received.IsZero() {
		h.Set(HeaderReceived, m.Received.UTC().Format(time.RFC3339Nano))
	}
	if m.Source != "" {
		h.Set(HeaderSource, oneLine(m.Source, maxLine))
	}
	setTrace(h, m.Trace)
}

// size is how many bytes the server counts for a message: headers and payload.
func size(m *nats.Msg) int {
	n := len(m.Data)
	if len(m.Header) > 0 {
		n += len("NATS/1.0\r\n\r\n")
	}
	for k, values := range m.Header {
		for _, v := range values {
			n += len(k) + len(": \r\n") + len(v)
		}
	}
	return n
}

// received reads when a stored message came, or takes the time at which it was stored.
func received(h nats.Header, stored time.Time) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, h.Get(HeaderReceived)); err == nil {
		return t
	}
	return stored
}
