package wire

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
)

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", " a\r\nb\tc\x00\u0085 ": "a  b c", "": "", "ü€": "ü€", "a\xffb": "a\uFFFDb",
		strings.Repeat("a", 20): strings.Repeat("a", 20), strings.Repeat("a", 21): strings.Repeat("a", 17) + "...",
		strings.Repeat("ü", 11): strings.Repeat("ü", 8) + "...",
	} {
		if got := OneLine(in, 20); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzOneLine(f *testing.F) {
	f.Add("a\r\nb", 10)
	f.Add("ü€\xff", 4)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = 4 + limit&0xff
		got := OneLine(s, limit)
		if len(got) > limit || !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Errorf("%q", got)
		}
	})
}

func TestTrace(t *testing.T) {
	long := strings.Repeat("s", MaxTrace+1)
	for _, c := range []struct {
		h    nats.Header
		want bridge.Trace
	}{
		{nil, bridge.Trace{}},
		{nats.Header{"traceparent": {"p"}, "tracestate": {"s"}}, bridge.Trace{Parent: "p", State: "s"}},
		{nats.Header{"Traceparent": {"p"}, "TraceState": {"s"}}, bridge.Trace{Parent: "p", State: "s"}},
		{nats.Header{"traceparent": {"p"}, "tracestate": {long}}, bridge.Trace{Parent: "p"}},
		{nats.Header{"traceparent": {long}, "tracestate": {"s"}}, bridge.Trace{}},
		{nats.Header{"traceparent": {"a\nb"}}, bridge.Trace{}},
	} {
		if got := TraceOf(c.h); got != c.want {
			t.Errorf("%v: %+v", c.h, got)
		}
	}
	h := nats.Header{}
	SetTrace(h, bridge.Trace{Parent: "a\r\nb", State: long})
	if len(h) != 0 {
		t.Errorf("%v", h)
	}
}

func TestSize(t *testing.T) {
	nc := within(t)
	sub, err := nc.SubscribeSync("size")
	if err != nil {
		t.Fatal(err)
	}
	m := nats.NewMsg("size")
	m.Header.Set("Key", "value")
	m.Header.Add("Key", "other")
	m.Data = []byte("payload")
	if err := nc.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	_ = nc.Flush()
	if _, n, err := sub.Pending(); err != nil || n < len(m.Data) {
		t.Fatal(n, err)
	}
	// Size counts subject, reply, headers and payload of a received message.
	got, err := sub.NextMsgWithContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := got.Size() - len(got.Subject) - len(got.Reply); Size(m) != want {
		t.Errorf("%d, want %d", Size(m), want)
	}
}
