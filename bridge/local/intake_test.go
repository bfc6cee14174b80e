package local

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"fleetbridge/mapping"
)

// TestIntake: many publishes without waiting, each answered with its own sequence, stored and handed out
// in order.
func TestIntake(t *testing.T) {
	r := newRigWith(t, ServerConfig{SyncAlways: true}, StoreConfig{})
	q, _ := r.run("pump", mapping.Telemetry)
	nc := r.program()
	inbox, err := nc.SubscribeSync("acks.*")
	if err != nil {
		t.Fatal(err)
	}
	const n = 2000
	for i := range n {
		if err := nc.PublishRequest("fleets.up.pump.events.x", fmt.Sprintf("acks.%d", i), []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		m, err := inbox.NextMsgWithContext(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		var ack struct {
			Stream string `json:"stream"`
			Seq    int    `json:"seq"`
		}
		if err := json.Unmarshal(m.Data, &ack); err != nil || ack.Stream != "FLEETS_UP_TELEMETRY" || m.Subject != fmt.Sprintf("acks.%d", ack.Seq-1) {
			t.Fatalf("%s on %s", m.Data, m.Subject)
		}
	}
	for i := range n {
		d := next(t, q)
		if string(d.Payload) != strconv.Itoa(i) || d.Sequence != uint64(i+1) {
			t.Fatalf("message %d is %s, sequence %d", i, d.Payload, d.Sequence)
		}
		d.Settle()
	}
}

// TestIntakeRefusals: one message that the stream refuses takes no other along, and gets the stream's own
// answer.
func TestIntakeRefusals(t *testing.T) {
	r := newRigWith(t, ServerConfig{MaxPayload: 64 << 10}, StoreConfig{})
	r.journal.forgive("message size exceeds limits")
	s := r.store.intakes[mapping.Telemetry]
	reply := r.subscribe("reply")
	large := strings.Repeat("x", 60<<10) // beyond the stream's limit, not the server's
	message := func(data string, header nats.Header) *nats.Msg {
		return &nats.Msg{Subject: "fleets.up.pump.events.x", Reply: "reply", Data: []byte(data), Header: header}
	}
	s.store([]*nats.Msg{message("a", nil), message(large, nil), message("b", nats.Header{"Nats-Msg-Id": {"1"}}), message("c", nats.Header{"Nats-Msg-Id": {"1"}})})
	s.store([]*nats.Msg{message("d", nats.Header{"Nats-Expected-Last-Sequence": {"7"}})})
	for i, want := range []string{`"seq":1`, `"err_code":10054`, `"seq":2`, `"duplicate":true`, `"err_code":10071`} {
		m, err := reply.NextMsgWithContext(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.ReplaceAll(string(m.Data), " ", ""), want) {
			t.Errorf("answer %d is %s, want %s", i, m.Data, want)
		}
	}
}

func TestGroupLength(t *testing.T) {
	plain := &nats.Msg{Data: make([]byte, 10)}
	asks := &nats.Msg{Header: nats.Header{"Nats-Expected-Stream": {"x"}}}
	big := &nats.Msg{Data: make([]byte, groupBytes)}
	many := make([]*nats.Msg, groupMax+1)
	for i := range many {
		many[i] = plain
	}
	for i, c := range []struct {
		all  []*nats.Msg
		want int
	}{
		{[]*nats.Msg{plain}, 1}, {many, groupMax}, {[]*nats.Msg{plain, plain, asks, plain}, 2}, {[]*nats.Msg{asks, plain}, 1},
		{[]*nats.Msg{big, plain}, 1}, {[]*nats.Msg{plain, big, plain}, 2},
	} {
		if n := groupLength(c.all); n != c.want {
			t.Errorf("case %d: %d, want %d", i, n, c.want)
		}
	}
}

// TestIntakeFull: what is more than there is room for is refused at once.
func TestIntakeFull(t *testing.T) {
	i := &intake{bytes: intakeBytes, more: make(chan struct{}, 1)}
	if i.put(&nats.Msg{}) {
		t.Error("taken")
	}
}

// TestIntakeBoundsHeaders: headers count as payloads do, or a program could fill the memory with them.
func TestIntakeBoundsHeaders(t *testing.T) {
	i := &intake{more: make(chan struct{}, 1), handover: &handover{space: "fleets.up.>"}, stamps: stamper{}}
	large := strings.Repeat("x", 1<<20)
	taken := 0
	for i.put(&nats.Msg{Subject: "fleets.up.pump.events.x", Header: nats.Header{"X": {large}}}) {
		if taken++; taken > 2*intakeBytes>>20 {
			t.Fatalf("%d MiB of headers wait, at most %d should", taken, intakeBytes>>20)
		}
	}
	if n := groupLength(i.waiting); n > 2*groupBytes>>20 {
		t.Errorf("%d MiB of headers go together", n)
	}
}
