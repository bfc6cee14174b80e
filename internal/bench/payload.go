package bench

import (
	"bytes"
	"strconv"
	"time"

	"fleetbridge/mapping"
)

// ID is the event type of the measurement's events, and begins the ids of its executions.
const ID = "bench"

// A tag is digits only, so it passes through any JSON unchanged: Thing, number, nanoseconds since the
// start of the measurement at which the message was due.
const (
	thingDigits  = 4
	numberDigits = 10
	dueDigits    = 16
	tagSize      = thingDigits + numberDigits + dueDigits
)

type tag struct {
	thing  int
	number int64
	due    time.Duration
}

func (t tag) append(b []byte) []byte {
	b = appendDigits(b, int64(t.thing), thingDigits)
	b = appendDigits(b, t.number, numberDigits)
	return appendDigits(b, int64(t.due), dueDigits)
}

func appendDigits(b []byte, n int64, width int) []byte {
	at := len(b)
	for range width {
		b = append(b, '0')
	}
	for i := at + width - 1; i >= at && n > 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return b
}

// What stands before the tag.
var (
	marker      = []byte(`"bench":"`)
	tokenMarker = []byte(`"clientToken":"`)
)

// findTag looks for a tag behind a marker.
func findTag(payload, marker []byte) (t tag, ok bool) {
	at := bytes.Index(payload, marker)
	if at < 0 || len(payload) < at+len(marker)+tagSize {
		return tag{}, false
	}
	b := payload[at+len(marker):][:tagSize]
	for _, c := range b {
		if c < '0' || c > '9' {
			return tag{}, false
		}
	}
	return tag{
		thing:  int(digits(b[:thingDigits])),
		number: digits(b[thingDigits:][:numberDigits]),
		due:    time.Duration(digits(b[thingDigits+numberDigits:])),
	}, true
}

func digits(b []byte) (n int64) {
	for _, c := range b {
		n = n*10 + int64(c-'0')
	}
	return n
}

// body makes the payloads of a channel, of one size each.
type body struct {
	channel mapping.Channel
	size    int
	now     time.Time
	pad     []byte
	buf     []byte
}

func newBody(c mapping.Channel, size int, now time.Time) *body {
	return &body{channel: c, size: size, now: now, pad: bytes.Repeat([]byte("0123456789abcdef"), size/16+1), buf: make([]byte, 0, size+64)}
}

// withTimestamp is the least size of an event that brings its timestamp; the bridge adds it to a
// smaller one.
const withTimestamp = 128

// of returns the payload for a tag; it is valid until the next call.
func (p *body) of(t tag) []byte {
	b := p.buf[:0]
	end := ""
	switch p.channel {
	case mapping.Event:
		b = append(b, `{"eventType":"`+ID+`","severity":"info",`...)
		if p.size >= withTimestamp {
			b = append(strconv.AppendInt(append(b, `"timestamp":`...), p.now.Add(t.due).UnixMilli(), 10), ',')
		}
		b, end = append(b, `"data":{`...), "}}"
	case mapping.ShadowReport:
		b, end = append(b, `{"state":{"reported":{`...), "}}}"
	case mapping.ShadowDelta:
		b = strconv.AppendInt(append(b, `{"version":`...), t.number, 10)
		b = strconv.AppendInt(append(b, `,"timestamp":`...), p.now.Add(t.due).Unix(), 10)
		b, end = append(b, `,"state":{`...), "}}"
	case mapping.JobsNotify:
		b, end = append(b, `{"jobs":{},`...), "}"
	case mapping.CommandRequest:
		b = strconv.AppendInt(append(b, `{"commandId":"bench","action":"`+ID+`","timestamp":`...), p.now.Add(t.due).Unix(), 10)
		b, end = append(b, `,"ttl":60,"params":{`...), "}}"
	case mapping.JobsGet:
		b = t.append(append(append(b, '{'), tokenMarker...))
		p.buf = append(b, `"}`...)
		return p.buf
	}
	b = append(t.append(append(b, marker...)), '"')
	const padding = `,"pad":""`
	if room := p.size - len(b) - len(end) - len(padding); room >= 0 {
		b = append(b, `,"pad":"`...)
		b = append(append(b, p.pad[:room]...), '"')
	}
	p.buf = append(b, end...)
	return p.buf
}

// LeastSize is how many bytes a channel's payload has without padding, with numbers as large as they get
// in a long run.
func LeastSize(c mapping.Channel) int {
	now := time.Unix(1_780_000_000, 0)
	return len(newBody(c, 0, now).of(tag{number: 999_999}))
}

// response answers a command that the measurement sent.
func response(request []byte) []byte {
	t, ok := findTag(request, marker)
	if !ok {
		return []byte(`{"status":"REJECTED","result":{"error":"not of this measurement"}}`)
	}
	b := append([]byte(`{"status":"SUCCEEDED","result":{`), marker...)
	return append(t.append(b), `"}}`...)
}
