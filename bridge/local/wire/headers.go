package wire

import (
	"maps"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
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
	HeaderStamp     = "Fleets-Timestamp" // of a stored event without a timestamp: the one that it gets, in Unix milliseconds
	HeaderNote      = "Fleets-Note"      // of a bucket's value: what clients of the bucket don't look at
	HeaderOperation = "KV-Operation"     // in the stream of a bucket: a deletion or a purge

	headerParent = "traceparent"
	headerState  = "tracestate"
)

// Bounds of header values, so that a message never outgrows what the server takes because of them.
const (
	MaxErrorText = 1024
	MaxTrace     = 1024 // the W3C asks for 512 bytes of tracestate at least
	MaxLine      = 2048 // topics and subjects; a legal one has at most 1.6 KB
	// Headroom is what the headers of a dead letter may need at most.
	// Each byte of text may become three.
	Headroom = 24 << 10
)

// OneLine makes s fit for a line of text: control characters become spaces, and what is longer than limit bytes ends in
// an ellipsis.
func OneLine(s string, limit int) string {
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

// HeaderText spells text for a header: printable ASCII stays, and % and every other byte is written %XX, as in a URL,
// because some clients drop all headers of a message that has one beyond ASCII. TextOf reads it.
func HeaderText(s string) string {
	n := 0
	for i := range len(s) {
		if !plainAt(s, i) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	out := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if plainAt(s, i) {
			out = append(out, s[i])
		} else {
			out = append(out, '%', hexDigits[s[i]>>4], hexDigits[s[i]&0xf])
		}
	}
	return string(out)
}

const hexDigits = "0123456789ABCDEF"

// plainAt reports whether a byte stays as it is. A blank at an end would not be kept.
func plainAt(s string, i int) bool {
	c := s[i]
	return c > ' ' && c <= '~' && c != '%' || c == ' ' && i > 0 && i < len(s)-1
}

// TextOf reads what HeaderText has written. Anything else stays as it is, such as what an earlier version has stored.
func TextOf(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if b, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				out = append(out, byte(b))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

// Value gets a value whatever the case of its key: HTTP-minded libraries write Traceparent.
func Value(h nats.Header, key string) string {
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

// TraceOf reads the trace context. One that is too long, or not printable ASCII, is left out.
func TraceOf(h nats.Header) bridge.Trace {
	if len(h) == 0 {
		return bridge.Trace{}
	}
	t := bridge.Trace{Parent: Value(h, headerParent), State: Value(h, headerState)}
	if !traceable(t.Parent) {
		return bridge.Trace{}
	}
	if !traceable(t.State) {
		t.State = ""
	}
	return t
}

func traceable(s string) bool {
	return len(s) <= MaxTrace && WellFormed(headerState, []string{s}) == nil
}

// SetTrace writes the trace context, if there is one.
func SetTrace(h nats.Header, t bridge.Trace) {
	var set Headers
	set.SetTrace(t)
	maps.Copy(h, set.NATS())
}

// Headers are a message's, each with one value. Unlike a map they cost next to nothing: each message from the cloud has some.
type Headers []Header

// Header is one of them.
type Header struct{ Key, Value string }

// UsualHeaders is room for what a message from the cloud has.
const UsualHeaders = 8

// Set adds a header.
func (h *Headers) Set(key, value string) { *h = append(*h, Header{key, value}) }

// NATS is the same for nats.go.
func (h Headers) NATS() nats.Header {
	out, values := make(nats.Header, len(h)), make([]string, len(h))
	for i, one := range h {
		values[i] = one.Value
		out[one.Key] = values[i : i+1 : i+1]
	}
	return out
}

// HeadersOf are those of a message for nats.go that have one value each, as the bridge's own do.
func HeadersOf(m nats.Header) Headers {
	h := make(Headers, 0, len(m))
	for key, values := range m {
		h.Set(key, values[0])
	}
	return h
}

// Size is how many bytes the server counts for them.
func (h Headers) Size() int {
	n := len(HeaderLine) + len("\r\n")
	for _, one := range h {
		n += len(one.Key) + len(": \r\n") + len(one.Value)
	}
	return n
}

// HeaderLine is what a block of headers begins with.
const HeaderLine = "NATS/1.0\r\n"

// SetTrace writes the trace context, if there is one.
func (h *Headers) SetTrace(t bridge.Trace) {
	if t.Parent != "" && traceable(t.Parent) {
		h.Set(headerParent, t.Parent)
	}
	if t.State != "" && traceable(t.State) {
		h.Set(headerState, t.State)
	}
}

// Stamp writes what a message tells about itself, the same on down messages and on dead letters.
func (h *Headers) Stamp(m bridge.Message) {
	if m.Address.Thing != "" {
		h.Set(HeaderThing, HeaderText(string(m.Address.Thing)))
	}
	if m.Address.Channel != "" {
		h.Set(HeaderChannel, HeaderText(string(m.Address.Channel)))
	}
	if !m.Received.IsZero() {
		h.Set(HeaderReceived, m.Received.UTC().Format(time.RFC3339Nano))
	}
	if m.Source != "" {
		h.Set(HeaderSource, HeaderText(OneLine(m.Source, MaxLine)))
	}
	h.SetTrace(m.Trace)
}

// Size is how many bytes the server counts for a message: headers and payload.
func Size(m *nats.Msg) int {
	n := len(m.Data)
	if len(m.Header) > 0 {
		n += len(HeaderLine) + len("\r\n")
	}
	for k, values := range m.Header {
		for _, v := range values {
			n += len(k) + len(": \r\n") + len(v)
		}
	}
	return n
}

// Received reads when a stored message came, or takes the time at which it was stored.
func Received(h nats.Header, stored time.Time) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, h.Get(HeaderReceived)); err == nil {
		return t
	}
	return stored
}

// StampDown writes the headers of a message from the cloud.
func (h *Headers) StampDown(m bridge.Message) {
	h.Stamp(m)
	h.Set(HeaderTopic, HeaderText(m.Address.Topic()))
}

// DownMessage is how a message from the cloud is stored for programs.
func DownMessage(s mapping.Subjects, m bridge.Message) *nats.Msg {
	h := make(Headers, 0, UsualHeaders)
	h.StampDown(m)
	return &nats.Msg{Subject: s.Store(mapping.SpaceDown, m.Address), Header: h.NATS(), Data: m.Payload}
}
