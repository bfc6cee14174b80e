package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unsafe"

	"fleetbridge/bridge"
)

// The last lines of level INFO and up are kept whatever is written, within bounds, and what is written stays as it was.
func TestChronicle(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := newChronicle()
	log := c.beside(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})))
	log.Debug("unseen")
	log.With("thing", "pump-07").WithGroup("nats").With("a", 1).Info("connected", "secret", Secret("hunter2"), "error", errors.New("why"))
	log.Warn(strings.Repeat("é", 1000))
	if len(c.events) != 2 || c.events[0].Number != 1 {
		t.Fatalf("%+v", c.events)
	}
	e := c.events[0]
	if e.Level != "INFO" || e.Message != "connected" || e.Thing != "pump-07" || e.At.IsZero() ||
		fmt.Sprint(e.Attrs) != "map[nats.a:1 nats.error:why nats.secret:[redacted]]" {
		t.Errorf("%+v", e)
	}
	if long := c.events[1].Message; len(long) > maxValue+len("…") || !strings.HasSuffix(long, "é…") {
		t.Errorf("%q", long)
	}
	if text := out.String(); strings.Contains(text, "connected") || !strings.Contains(text, "level=WARN") {
		t.Errorf("written: %s", text)
	}
	text := string((&Gateway{chronicle: c}).logText())
	if want := `level=INFO msg=connected thing=pump-07 nats.a=1 nats.error=why nats.secret=[redacted]` + "\n"; !strings.Contains(text, want) || strings.Contains(text, "hunter2") {
		t.Errorf("as lines: %s", text)
	}
	for range 2 * maxEvents {
		log.Info("again")
	}
	if len(c.events) != maxEvents || c.events[maxEvents-1].Number != 2*maxEvents+2 {
		t.Errorf("%d events, the last is %d", len(c.events), c.events[len(c.events)-1].Number)
	}
	attrs := make([]any, 0, 100)
	for i := range 50 {
		attrs = append(attrs, fmt.Sprint("k", i), i)
	}
	log.Info("many", attrs...)
	if n := len(c.events[maxEvents-1].Attrs); n != maxAttrs {
		t.Errorf("%d attributes", n)
	}
}

type counter struct{ n int }

func (c *counter) Outcome(bridge.Fate) { c.n++ }

// A Thing's tally counts beside the metrics, and costs no memory.
func TestTally(t *testing.T) {
	next := &counter{}
	y := &tally{next: next}
	if got := y.read(); got != (Tally{}) {
		t.Errorf("at first: %+v", got)
	}
	fate := bridge.Fate{Direction: directions[0], Outcome: bridge.Delivered, Taken: testTime}
	if n := testing.AllocsPerRun(100, func() { y.Outcome(fate) }); n > 0 {
		t.Errorf("%v allocations a message", n)
	}
	y.Outcome(bridge.Fate{Direction: directions[1], Outcome: bridge.Dead, Taken: testTime})
	y.Outcome(bridge.Fate{Direction: directions[1], Outcome: bridge.Duplicate, Taken: testTime})
	got := y.read()
	if got.Up.Delivered+got.Up.Dead != uint64(next.n-2) || got.Down != (Counts{Duplicate: 1, Dead: 1}) || !got.Last.Equal(testTime) {
		t.Errorf("%+v after %d", got, next.n)
	}
}

// An hour of samples is kept, and a day of fewer, which have the worst of their time.
func TestHistory(t *testing.T) {
	t.Parallel()
	var h history
	const all = 2 * daySamples * int(DayStep/HistoryStep)
	for n := range all {
		at := testTime.Add(HistoryStep * time.Duration(n))
		if wait := h.wait(at); wait > 0 {
			t.Fatalf("sample %d is due in %v", n, wait)
		}
		s := Sample{At: at, Connected: 10, Accepted: uint64(n)}
		if n == all-100 {
			s.Connected, s.Queued = 3, 70
		}
		h.add(s, [2]spread{})
		if wait := h.wait(at.Add(HistoryStep / 4)); wait != HistoryStep*3/4 {
			t.Fatalf("after sample %d another is due in %v", n, wait)
		}
	}
	if len(h.samples) != historySamples || !h.samples[0].At.Equal(testTime.Add(HistoryStep*time.Duration(all-historySamples))) {
		t.Errorf("%d samples from %v", len(h.samples), h.samples[0].At)
	}
	bad := 0
	for i, s := range h.day {
		if i > 0 && (s.At.Sub(h.day[i-1].At) != DayStep || s.Accepted-h.day[i-1].Accepted != uint64(DayStep/HistoryStep)) {
			t.Errorf("sample %d of the day is %+v after %+v", i, s, h.day[i-1])
		}
		if s.Connected == 3 && s.Queued == 70 {
			bad++
		}
	}
	if len(h.day) != daySamples || bad != 1 {
		t.Errorf("%d samples of the day, %d bad", len(h.day), bad)
	}
	size := uintptr(cap(h.samples)+cap(h.day))*unsafe.Sizeof(Sample{}) + uintptr(cap(h.spreads))*unsafe.Sizeof(h.spreads[0])
	if beside := unsafe.Sizeof(tally{}) - unsafe.Sizeof(tally{}.next); size > 300<<10 || beside > 64 {
		t.Errorf("%d bytes of history, %d for each Thing", size, beside)
	}
}

var testTime = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
