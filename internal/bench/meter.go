package bench

import (
	"context"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// meter knows what was sent and what came of it.
type meter struct {
	begun  time.Time
	marker []byte
	window int64

	mu       sync.Mutex
	sent     int64
	ended    int64 // arrived for the first time, or failed
	failed   int64
	repeated int64
	disorder int64
	next     []int64 // the number that comes next, of each Thing
	missing  map[int64]bool
	latency  *hdrhistogram.Histogram
	waiting  bool
	room     chan struct{} // an element: somebody who waited may look again
	drained  chan struct{} // closed when all that was sent has ended, once finished is set
	finished bool
}

// Latencies from 1 µs to ten minutes, to three digits.
const (
	latencyMin    = 1
	latencyMax    = 600_000_000
	latencyDigits = 3
)

func newMeter(l Load) *meter {
	m := &meter{
		begun: time.Now(), marker: marker, window: int64(l.Window), next: make([]int64, len(l.Things)), missing: map[int64]bool{},
		latency: hdrhistogram.New(latencyMin, latencyMax, latencyDigits), room: make(chan struct{}, 1), drained: make(chan struct{}),
	}
	if l.Kind == Req {
		m.marker = tokenMarker
	}
	for i := range m.next {
		m.next[i] = 1
	}
	return m
}

// take waits for room in the window and counts a message as sent. It returns false when ctx ended.
func (m *meter) take(ctx context.Context) bool {
	for {
		m.mu.Lock()
		if m.sent-m.ended < m.window {
			m.sent++
			m.mu.Unlock()
			return true
		}
		m.waiting = true
		m.mu.Unlock()
		select {
		case <-m.room:
		case <-ctx.Done():
			return false
		}
	}
}

// arrived takes a payload on the receiving side. What carries no tag is not ours.
func (m *meter) arrived(payload []byte) {
	t, ok := findTag(payload, m.marker)
	if !ok || t.thing >= len(m.next) {
		return
	}
	took := time.Since(m.begun) - t.due
	m.mu.Lock()
	defer m.mu.Unlock()
	switch next := &m.next[t.thing]; {
	case t.number == *next:
		*next++
	case t.number > *next:
		for ; *next < t.number; *next++ {
			m.missing[key(t.thing, *next)] = true
		}
		*next++
		m.disorder++
	case m.missing[key(t.thing, t.number)]:
		delete(m.missing, key(t.thing, t.number))
	default:
		m.repeated++
		return
	}
	_ = m.latency.RecordValue(min(max(took.Microseconds(), latencyMin), latencyMax))
	m.end(1)
}

func key(thing int, number int64) int64 { return int64(thing)<<40 | number }

// fail counts a message that was refused and won't arrive.
func (m *meter) fail() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed++
	m.end(1)
}

// counted tells that so many have arrived in all, where somebody else counts.
func (m *meter) counted(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if more := n + m.failed - m.ended; more > 0 {
		m.end(more)
	}
}

// end makes room. The sender is woken when half of the window is free, lest it is for each message.
func (m *meter) end(n int64) {
	m.ended += n
	if m.waiting && m.sent-m.ended <= m.window/2 {
		m.waiting = false
		m.room <- struct{}{} // never full: only one waits
	}
	m.check()
}

// finish says that no more is sent, and returns what is closed when everything has ended.
func (m *meter) finish() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finished = true
	m.check()
	return m.drained
}

func (m *meter) check() {
	if m.finished && m.ended >= m.sent {
		select {
		case <-m.drained:
		default:
			close(m.drained)
		}
	}
}

// reset begins the measured part.
func (m *meter) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.latency.Reset()
}

// counts is a look at the meter.
type counts struct{ sent, ended, failed, repeated, disorder int64 }

func (m *meter) counts() counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return counts{m.sent, m.ended, m.failed, m.repeated, m.disorder}
}

// snapshot copies the latencies so far.
func (m *meter) snapshot() *hdrhistogram.Histogram {
	m.mu.Lock()
	defer m.mu.Unlock()
	return hdrhistogram.Import(m.latency.Export())
}
