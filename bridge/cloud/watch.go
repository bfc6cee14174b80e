package cloud

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	paholog "github.com/eclipse/paho.golang/paho/log"
)

// watch ends a connection on which nothing moves: no byte while an answer to SUBSCRIBE or PINGREQ is due, or no
// acknowledgement. It stands still while this side does not read. paho runs it as its pinger.
type watch struct {
	link   *link
	pinged time.Time // zero: no answer is due
	quiet  progress  // since the ping
	asked  *question // whose answer quietAsked is about
	silent progress  // since the question
	head   *entry    // the oldest message in flight that ack is about
	ack    progress
	before int64 // bytes that had come when it became the oldest
	since  time.Time
	// A PINGREQ is sent behind the message. When it is answered, the PUBACK can't be behind other bytes that come.
	probe int64 // number of that ping; 0: none was sent
	upTo  int64 // bytes that had come when its answer was seen; 0: not yet

	pings int64        // sent
	pongs atomic.Int64 // come
}

// question is what the broker has to answer before the connection is of use.
type question struct {
	answer string // the packet that is awaited
	since  time.Time
}

// unanswered is the cause of a connection on which nothing moved while a packet was due.
type unanswered struct {
	packet string
	within time.Duration
}

func (u *unanswered) Error() string {
	return fmt.Sprintf("subscribe: no %s within %v", u.packet, u.within)
}

// Run looks a few times per timeout. The keep-alive that paho knows is not used: a broker may only shorten ours.
func (w *watch) Run(ctx context.Context, _ net.Conn, _ uint16) error {
	l := w.link
	tick := time.NewTicker(min(max(min(l.s.cfg.AckTimeout, l.alive, l.patience)/8, time.Millisecond), 5*time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := w.look(time.Now()); err != nil {
				l.conn.fail(err)
				return err
			}
		}
	}
}

func (w *watch) look(now time.Time) error {
	l := w.link
	out, in := l.conn.wire.moved()
	if l.stalled(w, now, out, in) {
		return stall("no PUBACK for %v %w", l.s.cfg.AckTimeout, errDeaf)
	}
	full := l.s.inbox.blocked.Load()
	if q := l.question.Load(); q != w.asked || full {
		w.asked = q
		w.silent.restart(now, out+in)
	} else if q != nil && w.silent.idle(now, out+in, l.patience) >= l.patience {
		return &unanswered{q.answer, l.patience}
	}
	return w.keepAlive(now, out+in, full)
}

// keepAlive pings, and fails when neither an answer comes nor anything else moves.
func (w *watch) keepAlive(now time.Time, moved int64, full bool) error {
	alive := w.link.alive
	read, sent := w.link.conn.lastRead(), w.link.conn.lastSent()
	switch idle := alive * 3 / 4; {
	case full:
		if !w.pinged.IsZero() {
			w.quiet.restart(now, moved)
		}
		if now.Sub(sent) >= idle && now.Sub(w.pinged) >= idle {
			w.ping(now, moved)
		}
	case !w.pinged.IsZero() && !read.Before(w.pinged):
		w.pinged = time.Time{}
	case !w.pinged.IsZero() && w.quiet.idle(now, moved, alive) >= alive:
		return stall("keep-alive: the broker sent nothing for %v", alive)
	case w.pinged.IsZero() && (now.Sub(sent) >= idle || now.Sub(read) >= idle):
		w.ping(now, moved)
	}
	return nil
}

func (w *watch) ping(now time.Time, moved int64) {
	w.pinged = now
	w.pings++
	w.quiet.restart(now, moved)
	w.link.pinging.Store(true)
	w.link.nudge()
}

// stalled reports whether the oldest message in flight has waited too long. Its time starts again while the message is still
// being sent, and while bytes come that may be in front of its PUBACK: at most one packet of the largest size.
func (l *link) stalled(w *watch, now time.Time, out, in int64) bool {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	o := l.s.out
	head := o.flight.head
	if l.s.link != l || head == nil {
		w.head = nil
		return false
	}
	if head != w.head {
		w.head, w.before, w.since, w.probe, w.upTo = head, in, now, 0, 0
		w.ack.restart(now, w.excuse(head, out, in, l.s.cfg.MaxPacket))
	}
	w.ask(now, out, in)
	if w.upTo > 0 {
		in = min(in, w.upTo)
	}
	since := w.ack.since
	w.ack.idle(now, w.excuse(head, out, in, l.s.cfg.MaxPacket), l.s.cfg.AckTimeout)
	if w.ack.since != since || l.s.inbox.blocked.Load() {
		o.since = now
	}
	return o.stalled(now)
}

// ask sends a PINGREQ behind a message that has been sent and waits for long. When the answer is there, the link works, and
// bytes that come no longer count.
func (w *watch) ask(now time.Time, out, in int64) {
	left := w.head.end > 0 && out >= w.head.end
	switch {
	case w.probe == 0 && left && now.Sub(w.since) >= w.link.s.cfg.AckTimeout/2 && !w.link.pinging.Load():
		w.ping(now, out+in)
		w.probe = w.pings
	case w.probe > 0 && w.upTo == 0 && w.pongs.Load() >= w.probe:
		w.upTo, w.head.passed = max(in, 1), true
	}
}

// excuse is how many bytes have moved that an acknowledgement has to wait for.
func (w *watch) excuse(head *entry, out, in int64, packet int) int64 {
	if head.end > 0 {
		out = min(out, head.end)
	}
	return out + min(in-w.before, int64(packet))
}

// PacketSent is called when paho has written a SUBSCRIBE. The kept session has the subscriptions already: messages may
// go, behind the SUBSCRIBE, whose answer may take long on a slow link.
func (w *watch) PacketSent() {
	if w.link.present {
		w.link.begin()
	}
}

// PingResp is called for each PINGRESP.
func (w *watch) PingResp() { w.pongs.Add(1) }

// What else paho tells a pinger, the connection sees for itself.

func (w *watch) PacketReceived()         {}
func (w *watch) SetDebug(paholog.Logger) {}
