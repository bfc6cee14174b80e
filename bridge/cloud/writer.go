package cloud

import (
	"time"

	"fleetbridge/internal/flow"
)

const (
	batchBytes    = 64 << 10 // of packets a write, and one message more
	batchMessages = 128      // taken under one lock
)

// pick is a message to write, as it was when it was taken: a later resend changes the entry.
type pick struct {
	entry *entry
	id    uint16
	dup   bool
}

// nudge wakes the writer. It may be called on nil: there is no connection then.
func (l *link) nudge() {
	if l != nil {
		flow.Signal(l.wake)
	}
}

// write sends everything but paho's own packets until the connection ends: acknowledgements first, in
// order, then messages.
func (l *link) write() {
	defer close(l.written)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var out []byte
	var picks []pick
	for l.ctx.Err() == nil {
		if cap(out) > 8*batchBytes {
			out = nil // after an unusually large message
		}
		out = l.acks.appendReady(out[:0])
		if l.pinging.Swap(false) {
			out = append(out, pingreqByte, 0)
		}
		var wake time.Time
		picks, wake = l.take(picks[:0], len(out))
		for _, p := range picks {
			out = appendPublish(out, p.entry, p.id, p.dup)
		}
		if len(out) > 0 {
			if l.conn.send(out) != nil {
				return
			}
			l.left(picks)
			l.confirm(picks)
			clear(picks)
			continue
		}
		var due <-chan time.Time
		if !wake.IsZero() {
			timer.Reset(time.Until(wake))
			due = timer.C
		}
		select {
		case <-l.wake:
		case <-due:
		case <-l.ctx.Done():
		}
	}
}

// take collects the messages for one write, and completes those that must not be sent. wake is when
// more may be due. So many bytes go before them.
func (l *link) take(picks []pick, ahead int) (_ []pick, wake time.Time) {
	s := l.s
	var dropped []completion
	now := time.Now()
	before := l.conn.wire.written.Load() + int64(ahead)
	s.mu.Lock()
	for size := 0; s.link == l && size < batchBytes && len(picks)+len(dropped) < batchMessages; {
		next := s.out.advance(now)
		switch {
		case next.send != nil:
			picks = append(picks, pick{next.send, next.send.id, next.send.dup})
			next.send.start = before + int64(size)
			size += publishSize(next.send)
			continue
		case next.drop.entry != nil:
			dropped = append(dropped, next.drop)
			continue
		}
		wake = next.wake
		break
	}
	s.mu.Unlock()
	for _, c := range dropped {
		s.complete(c)
	}
	if len(dropped) > 0 {
		flow.Signal(l.wake) // there may be more
	}
	return picks, wake
}

// left notes what was written, and when.
func (l *link) left(picks []pick) {
	if len(picks) == 0 {
		return
	}
	s, end := l.s, l.conn.wire.written.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != l {
		return
	}
	l.sent = time.Now()
	for _, p := range picks {
		p.entry.end = end
	}
}

// confirm completes what was written to a broker that acknowledges nothing.
func (l *link) confirm(picks []pick) {
	if !l.limits.atMostOnce {
		return
	}
	for _, p := range picks {
		l.s.mu.Lock()
		ours := l.s.link == l && l.s.out.sent(p.entry)
		if ours {
			l.acked++
		}
		l.s.mu.Unlock()
		if ours {
			l.s.complete(completion{entry: p.entry})
		}
	}
}
