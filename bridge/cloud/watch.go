package cloud

import (
	"context"
	"fmt"
	"net"
	"time"

	paholog "github.com/eclipse/paho.golang/paho/log"
)

// watch bounces a connection that is silent: nothing read for a keep-alive after a PINGREQ, or no
// progress of the acknowledgements. It stands still while we are the ones who do not read. paho runs
// it as its pinger.
type watch struct {
	link   *link
	pinged time.Time // zero: no answer is due
}

// Run looks a few times per timeout. keepAlive is what was agreed with the broker, in seconds; 0: no
// PINGREQ.
func (w *watch) Run(ctx context.Context, _ net.Conn, keepAlive uint16) error {
	alive := time.Duration(keepAlive) * time.Second
	shortest := w.link.s.cfg.AckTimeout
	if alive > 0 {
		shortest = min(shortest, alive)
	}
	tick := time.NewTicker(min(max(shortest/8, time.Millisecond), 5*time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := w.look(time.Now(), alive); err != nil {
				w.link.conn.fail(err)
				return err
			}
		}
	}
}

func (w *watch) look(now time.Time, alive time.Duration) error {
	l := w.link
	full := l.s.inbox.blocked.Load()
	l.s.mu.Lock()
	if full && l.s.out.flight.len > 0 {
		l.s.out.since = now
	}
	stalled := l.s.out.stalled(now)
	l.s.mu.Unlock()
	if stalled {
		return fmt.Errorf("no PUBACK for %v with messages in flight", l.s.cfg.AckTimeout)
	}
	if alive == 0 {
		return nil
	}
	read, sent := l.conn.lastRead(), l.conn.lastSent()
	switch idle := alive * 3 / 4; {
	case full:
		if !w.pinged.IsZero() {
			w.pinged = now
		}
		if now.Sub(sent) >= idle {
			w.ping(now)
		}
	case !w.pinged.IsZero() && !read.Before(w.pinged):
		w.pinged = time.Time{}
	case !w.pinged.IsZero() && now.Sub(w.pinged) >= alive:
		return fmt.Errorf("keep-alive: the broker sent nothing for %v", alive)
	case w.pinged.IsZero() && (now.Sub(sent) >= idle || now.Sub(read) >= idle):
		w.ping(now)
	}
	return nil
}

func (w *watch) ping(now time.Time) {
	w.pinged = now
	w.link.pinging.Store(true)
	w.link.nudge()
}

// What paho tells a pinger, the connection sees for itself.

func (w *watch) PacketSent()             {}
func (w *watch) PacketReceived()         {}
func (w *watch) PingResp()               {}
func (w *watch) SetDebug(paholog.Logger) {}
