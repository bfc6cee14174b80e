package bridge

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fleetbridge/mapping"
)

// TestFloodOfCommands: a broker sends requests that are good for a year, and nobody serves them. What is kept of them is
// bounded, what is more is answered, and other Things have room.
func TestFloodOfCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		d := newDeciders(t)
		d.station.Policy.Reject = false
		d.station.Handlers = handler(func(context.Context, Call) (Reply, error) { return Reply{}, ErrNoHandler })
		payload := fmt.Sprintf(`{"action":"purge","ttl":31536000,"params":{"x":%q}}`, strings.Repeat("x", 100_000))
		room := NewCommandRoom(10 * (executionCost + len(payload)))
		d.station.Executions.Room = room
		kept := 0
		for i := range 50 {
			decision, err := d.down.Decide(ctx, arriving(mapping.CommandRequest, fmt.Sprintf("e%d", i), payload))
			switch got := fate(decision, err); got {
			case payload:
				kept++
				d.down.open(ctx, d.station.Executions.open[fmt.Sprintf("e%d", i)], func() {})
			case "dead unexpected":
			default:
				t.Fatalf("%d: %.200s", i, got)
			}
		}
		if kept != 5 {
			t.Errorf("%d are kept, want half of the room", kept)
		}
		if got := d.station.outbox.payloads(); len(got) != 45 || !strings.Contains(got[0], "REJECTED") || !strings.Contains(got[0], "memory") {
			t.Errorf("%d answers, %.200q", len(got), got)
		}
		if !room.take("other", 4*len(payload)) || room.take("other", 2*len(payload)) {
			t.Error("another Thing has no share")
		}
		room.add("other", -4*len(payload))
		if first, _, err := d.station.Executions.Claim(ctx, "e0", 1); !first || err != nil {
			t.Fatal(first, err)
		}
		if decision, err := d.down.Decide(ctx, arriving(mapping.CommandRequest, "next", payload)); fate(decision, err) != payload {
			t.Errorf("there is no room for the next: %v", err)
		}
		stop()
		d.station.running.Wait()
		d.station.Executions.leave()
		if room.used != 0 || len(room.of) != 0 {
			t.Errorf("%d bytes are held by nobody", room.used)
		}
		time.Sleep(time.Second)
	})
}

// TestOpenCommandsHaveRoom: what the last run left open is counted, and taken up even if it is too much.
func TestOpenCommandsHaveRoom(t *testing.T) {
	s := newStation(t, rejecting, nil)
	for i := range 3 {
		e := &Execution{ID: fmt.Sprintf("e%d", i), Payload: []byte("{}")}
		if err := s.Executions.Begin(e); err != nil {
			t.Fatal(err)
		}
		if err := s.Executions.Open(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	x, left, err := LoadExecutions(t.Context(), pump07, s.bucket)
	if err != nil || len(left) != 3 {
		t.Fatalf("%d are left, %v", len(left), err)
	}
	x.Room = NewCommandRoom(2 * executionCost)
	room := x.Room
	x.enter()
	if room.used != 3*(executionCost+2) {
		t.Errorf("%d bytes are held", room.used)
	}
	if err := x.Begin(&Execution{ID: "next"}); err == nil {
		t.Error("there is room for one more")
	}
	for _, e := range left {
		if first, _, err := x.Claim(t.Context(), e.ID, 1); !first || err != nil {
			t.Fatal(first, err)
		}
	}
	if err := x.Begin(&Execution{ID: "next"}); err != nil {
		t.Error(err)
	}
	x.leave()
	if room.used != 0 {
		t.Errorf("%d bytes are held by nobody", room.used)
	}
}

// TestAnswersAreBounded: whoever answers executions that there are not, without an end, fills no disk, and what the cloud
// has asked for is remembered meanwhile.
func TestAnswersAreBounded(t *testing.T) {
	s := newStation(t, rejecting, nil)
	e := &Execution{ID: "asked"}
	if err := s.Executions.Begin(e); err != nil {
		t.Fatal(err)
	}
	claim := func(id string, sequence uint64, want bool) {
		t.Helper()
		if mine, _, err := s.Executions.Claim(t.Context(), id, sequence); mine != want || err != nil {
			t.Fatalf("%s: %t, %v", id, mine, err)
		}
	}
	claim("asked", 1, true)
	for i := range 2 * maxUnasked {
		claim(fmt.Sprintf("x%d", i), uint64(i+2), true)
	}
	s.bucket.mu.Lock()
	n := len(s.bucket.values)
	s.bucket.mu.Unlock()
	if n > maxUnasked+2 {
		t.Errorf("%d records are kept", n)
	}
	claim("asked", 99_999, false)
	claim(fmt.Sprintf("x%d", 2*maxUnasked-1), 99_999, false)
	claim(fmt.Sprintf("x%d", maxUnasked), uint64(maxUnasked+2), true) // once more, after a restart
}

// TestLongAnswersAreFewer: what is remembered of answers takes so much memory, however long their ids are.
func TestLongAnswersAreFewer(t *testing.T) {
	var l latest
	gone := 0
	for i := range 3 * maxUnasked {
		gone += len(l.add(fmt.Sprintf("%0256d", i), maxAnswers))
	}
	if want := maxAnswerBytes / (256 + answerCost); len(l.ids) != want || gone != 3*maxUnasked-want {
		t.Errorf("%d ids are kept, want %d, and %d have gone", len(l.ids), want, gone)
	}
	if last := l.ids[len(l.ids)-1]; last != fmt.Sprintf("%0256d", 3*maxUnasked-1) {
		t.Errorf("the newest is %s", last)
	}
}
