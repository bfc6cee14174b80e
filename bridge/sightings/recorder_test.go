package sightings

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// seen makes a delivered event.
func seen(thing, payload string) *bridge.Sighting {
	return &bridge.Sighting{At: time.Now(), Outcome: bridge.Delivered, Address: mapping.Address{Thing: mapping.Thing(thing), Channel: mapping.Event, ID: "e"}, Payload: []byte(payload)}
}

// newStill makes a recorder whose time stands still, so that its places run out.
func newStill() (*Recorder, *bridge.Watch) {
	w := &bridge.Watch{}
	r := NewRecorder(w)
	at := time.Now()
	r.now = func() time.Time { return at }
	return r, w
}

// drain reads all that there is for a tail.
func drain(r *Recorder, t *tail) (got []*Record, skipped Gap) { return (&Reader{r, t}).Next(nil) }

// What a tail is shown and what it is not are together what its filter picks, of each channel.
func TestGapsAddUp(t *testing.T) {
	r, _ := newStill()
	defer r.Close()
	all, one, dead := r.open(Filter{}), r.open(Filter{Thing: "pump-1"}), r.open(Filter{Outcome: "dead"})
	const each = 3000
	channels := []mapping.Channel{mapping.Event, mapping.ShadowReport, mapping.CommandResponse, ""}
	var senders sync.WaitGroup
	for i := range 4 {
		senders.Go(func() {
			for n := range each {
				s := seen(fmt.Sprint("pump-", i), strings.Repeat("x", n%6000))
				s.Address.Channel = channels[n%len(channels)]
				if n%12 == 0 {
					s.Outcome = bridge.Dead
				}
				r.Saw(s)
			}
		})
	}
	readers := []*tail{all, one, dead}
	shown, skipped := []Gap{{}, {}, {}}, []Gap{{}, {}, {}}
	read := func(i int) {
		got, more := drain(r, readers[i])
		for _, r := range got {
			shown[i].Miss(mapping.Channel(r.Channel))
		}
		skipped[i].Add(more)
	}
	done := make(chan struct{})
	go func() { senders.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
			read(0) // the others read at the end
		}
	}
	for i := range readers {
		read(i)
		want := Gap{mapping.Event: each, mapping.ShadowReport: each, mapping.CommandResponse: each, connection: each}
		switch i {
		case 1: // one Thing of four
			for c := range want {
				want[c] /= 4
			}
		case 2: // each twelfth message is dead
			want = Gap{mapping.Event: 4 * each / 12}
		}
		both := Gap{}.Add(shown[i]).Add(skipped[i])
		if !maps.Equal(both, want) {
			t.Errorf("tail %d: shown are %s, not shown %s, of %s", i, shown[i], skipped[i], want)
		}
		if shown[i].Sum() == 0 || skipped[i].Sum() == 0 {
			t.Errorf("tail %d: shown are %s, not shown %s: nothing was tested", i, shown[i], skipped[i])
		}
	}
	if len(r.ring) > maxRecords || r.bytes > maxBytes {
		t.Errorf("the ring has %d records, %d bytes", len(r.ring), r.bytes)
	}
}

// What makes room in the ring for newer ones is counted for who has not read it.
func TestRingIsBounded(t *testing.T) {
	r, _ := newStill()
	defer r.Close()
	late := r.open(Filter{Thing: "pump-*"})
	at := time.Now()
	r.now = func() time.Time { at = at.Add(time.Second); return at } // there is room for each
	const sent = 6000
	for n := range sent {
		r.Saw(seen([]string{"pump-1", "valve-1"}[n%2], strings.Repeat("x", 3000)))
	}
	if got, gone := drain(r, late); uint64(len(got))+gone[mapping.Event] != sent/2 || len(gone) != 1 || len(got) == 0 {
		t.Errorf("%d shown and %s not shown of %d", len(got), gone, sent/2)
	}
	if r.bytes > maxBytes {
		t.Errorf("%d bytes are kept", r.bytes)
	}
}

// Looking begins with the first tail and ends a while after the last; a tail too many is refused.
func TestLookingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &bridge.Watch{}
		r := NewRecorder(w)
		sees := func() bool {
			before := r.next
			_, _ = (&bridge.Requests{Watch: w, Things: map[mapping.Thing]*bridge.Desk{"t": {Shadow: &bridge.Shadow{}}}}).
				Handle(t.Context(), bridge.Request{Thing: "t", ShadowGet: true})
			return r.next > before
		}
		if sees() {
			t.Error("it looks before there is a tail")
		}
		var open []*tail
		for range maxTails {
			open = append(open, r.open(Filter{}))
		}
		if r.open(Filter{}) != nil {
			t.Error("a tail too many is let in")
		}
		if !sees() {
			t.Error("it does not look")
		}
		for _, one := range open {
			r.close(one)
		}
		time.Sleep(keepFor - time.Second)
		if !sees() || len(r.All()) != 2 {
			t.Error("what was just seen is forgotten at once")
		}
		again := r.open(Filter{})
		time.Sleep(keepFor)
		if !sees() {
			t.Error("it stopped looking although somebody came again")
		}
		r.close(again)
		time.Sleep(keepFor + time.Second)
		if sees() || len(r.All()) != 0 {
			t.Error("it looks, or keeps, for ever")
		}
		r.Close()
		if sees() || r.open(Filter{}) != nil {
			t.Error("it looks after Close")
		}
	})
}

func TestFilter(t *testing.T) {
	s := seen("hall 1:pump-07", `{"text":"needle"}`)
	s.Reason = "because"
	for _, c := range []struct {
		f    Filter
		want bool
	}{
		{Filter{}, true},
		{Filter{Thing: "hall*"}, true}, {Filter{Thing: "*07"}, true}, {Filter{Thing: "h*:*-07"}, true}, {Filter{Thing: "*"}, true},
		{Filter{Thing: "hall"}, false}, {Filter{Thing: "*pump"}, false}, {Filter{Thing: "hall 1:pump-07*7"}, false}, {Filter{Thing: "h*x*7"}, false},
		{Filter{Channel: "event"}, true}, {Filter{Channel: "shadow.report"}, false},
		{Filter{Direction: "up"}, true}, {Filter{Direction: "down"}, false},
		{Filter{Outcome: "delivered"}, true}, {Filter{Outcome: "dead"}, false},
		{Filter{Text: "needle"}, true}, {Filter{Text: "becau"}, true}, {Filter{Text: "nadel"}, false},
		{Filter{Thing: "hall*", Channel: "event", Direction: "up", Outcome: "delivered", Text: "e"}, true},
		{Filter{Thing: "hall*", Channel: "event", Direction: "up", Outcome: "dead", Text: "e"}, false},
	} {
		if got := c.f.picks(s); got != c.want {
			t.Errorf("%+v picks: %t", c.f, got)
		}
		if got := c.f.keeps(newRecord(s)); got != c.want {
			t.Errorf("%+v keeps: %t", c.f, got)
		}
		if back := parseFilter(c.f.query()); back != c.f {
			t.Errorf("%+v comes back as %+v", c.f, back)
		}
	}
	if link := (&bridge.Sighting{Outcome: bridge.Connected}); (&Filter{Direction: "up"}).picks(link) {
		t.Error("a connection has a direction")
	}
}

// A record holds a bounded part, as text where it is text, and prints the same again.
func TestRecord(t *testing.T) {
	for _, c := range []struct {
		payload string
		text    bool
		cut     bool
	}{
		{"", true, false}, {`{"a":"ä"}`, true, false}, {"\xff\x00", false, false},
		{strings.Repeat("x", maxPayload), true, false}, {strings.Repeat("x", maxPayload+1), true, true},
		{strings.Repeat("x", maxPayload-1) + "ä", true, true}, {strings.Repeat("x", maxPayload-2) + "€…", true, true}, {strings.Repeat("\x80", maxPayload+9), false, true},
	} {
		s := seen("t", c.payload)
		s.Reason = strings.Repeat("€", maxText)
		r := newRecord(s)
		if (r.Payload != nil) != c.text || r.Cut != c.cut || r.Bytes != len(c.payload) || len(r.Head()) > maxPayload || len(r.Reason) > maxText {
			t.Errorf("%.20q: text %t, cut %t, %d bytes, head %d", c.payload, r.Payload != nil, r.Cut, r.Bytes, len(r.Head()))
		}
		if !strings.HasPrefix(c.payload, r.Head()) {
			t.Errorf("%.20q: kept is %.20q", c.payload, r.Head())
		}
		var back Record
		if b, err := json.Marshal(r); err != nil || json.Unmarshal(b, &back) != nil || back.Head() != r.Head() {
			t.Errorf("%.20q: comes back as %.20q, %v", c.payload, back.Head(), err)
		}
	}
	payload := []byte("before")
	s := seen("t", "")
	s.Payload = payload
	r := newRecord(s)
	copy(payload, "after!")
	if r.Head() != "before" || bytes.Equal(payload, []byte("before")) {
		t.Error("the payload was not copied")
	}
}

// BenchmarkSaw is what a message costs the pump that is not kept, because there are too many, while a tail is open.
func BenchmarkSaw(b *testing.B) {
	r, _ := newStill()
	defer r.Close()
	r.open(Filter{})
	s := seen("pump-1", strings.Repeat("x", 300))
	b.ReportAllocs()
	for b.Loop() {
		r.Saw(s)
	}
}

// However much passes and whatever is looked for, a second puts 1,500 messages at most into the ring. What is not kept costs no
// memory.
func TestKeptIsFew(t *testing.T) {
	r, _ := newStill()
	defer r.Close()
	r.open(Filter{})
	r.open(Filter{Thing: "pump-*"})
	odd := seen("valve-1", "x")
	odd.Outcome = bridge.Dead
	all := []*bridge.Sighting{seen("pump-1", "x"), seen("valve-1", "x"), odd}
	for range 33_000 {
		for _, s := range all {
			r.Saw(s)
		}
	}
	if len(r.ring) != oddRate+narrowRate+restRate || len(r.ring) > 1500 {
		t.Errorf("%d are kept", len(r.ring))
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, s := range all {
			r.Saw(s)
		}
	}); n > 0 {
		t.Errorf("%v allocations for what is not kept", n)
	}
}
