package wire

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"fleetbridge/mapping"
)

// TestAdmit: what crosses.
func TestAdmit(t *testing.T) {
	for _, c := range []struct {
		in   nats.Header
		want string // of what crosses; empty: refused
	}{
		{nil, "map[]"}, {nats.Header{"a": {"b", "c"}, "Fleets-Worker": {"w"}}, "map[Fleets-Worker:[w] a:[b c]]"},
		{nats.Header{"Nats-Msg-Id": {"1"}, "Nats-Expected-Stream": {"x"}}, "map[Nats-Expected-Stream:[x] Nats-Msg-Id:[1]]"},
		{nats.Header{"fleets-timestamp": {"7"}, "Nats-Request-Info": {"{}"}, "Nats-Subject": {"x"}, "k": {"v"}}, "map[k:[v]]"},
		{nats.Header{"Fleets-Received": {"x"}, "Nats-Batch-Commit": {"1"}}, "map[Fleets-Received:[x]]"},
		{nats.Header{"Nats-Batch-Commit": {"1"}}, ""}, {nats.Header{"nats-msg-id": {"1"}}, ""}, {nats.Header{"NATS-X": {"1"}}, ""}, {nats.Header{"Nats-": {"1"}}, ""},
		{nats.Header{"Nats-Msg-Id": {"1", "2"}}, ""}, {nats.Header{"Nats-Msg-Id": {}}, ""}, {nats.Header{"Nats-Expected-Last-Sequence": {"1"}}, ""}, {nats.Header{"Nats-Expected-Last-Subject-Sequence": {"1"}}, ""},
		{nats.Header{"": {"1"}}, ""}, {nats.Header{"a:": {"1"}}, ""}, {nats.Header{"a": {"1\r\nb: c"}}, ""}, {nats.Header{"a\r\nb": {"1"}}, ""}, {nats.Header{"a": {"\x7f"}}, ""},
	} {
		got, err := Admit(c.in)
		if (err == nil) != (c.want != "") || err == nil && fmt.Sprint(got) != c.want {
			t.Errorf("%v: %v, %v; want %s", c.in, got, err, c.want)
		}
	}
}

func TestAnswerable(t *testing.T) {
	s, err := mapping.NewSubjects("fleets")
	if err != nil {
		t.Fatal(err)
	}
	for reply, want := range map[string]bool{
		"_INBOX.x.y": true, "_R_.x.y": true, "acks.1": true, "_INBOX_alice.1": true, "fleets.answers.1": true, "fleetsup.x": true, "müll.1": true,
		"": false, "fleets.up.a.events.x": false, "fleets.down.a.x": false, "fleets.cmd.b.purge": false, "fleets.req.b.x": false, "fleets.dead.up.x": false, "_fleets.down.b.x": false, "_fleets.ack.x": false,
		"$JS.API.STREAM.PURGE.X": false, "$KV.FLEETS_SHADOW.b": false, "$SYS.x": false, "a.1.2.$FI": false, "a.*": false, "a.>": false, "a..b": false, "a b": false, "a\tb": false, strings.Repeat("x", LongestSubject+1): false,
	} {
		if got := Answerable(s, reply); got != want {
			t.Errorf("%.80q: %v", reply, got)
		}
	}
}
