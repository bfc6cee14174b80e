package bench

import (
	"context"
	"time"
)

// send sends until ctx ends or all messages are sent. At a rate a message is due at its moment, however
// late the sender is.
func (r *run) send(ctx context.Context) error {
	l, m := r.load, r.meter
	payloads := newBody(l.Channel, l.Size, m.begun)
	first := time.Since(m.begun)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := 0; ctx.Err() == nil && (l.Messages == 0 || i < l.Messages); i++ {
		var due time.Duration
		if l.Rate > 0 {
			due = first + time.Duration(float64(i)/l.Rate*float64(time.Second))
			if wait := due - time.Since(m.begun); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-ctx.Done():
					return nil
				}
			}
		}
		if !m.take(ctx) {
			return nil
		}
		if l.Rate == 0 {
			due = time.Since(m.begun)
		}
		t := tag{thing: i % len(l.Things), number: int64(i/len(l.Things)) + 1, due: due}
		if err := r.ends.Send(t.thing, t.number, payloads.of(t)); err != nil {
			return err
		}
	}
	return nil
}
