package bridge

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"fleetbridge/mapping"
)

// EventClock gives events the timestamp that their sender left out: when the gateway took them, in
// Unix milliseconds, but strictly increasing per Thing, because Fleets keeps one event per Thing, type,
// severity and millisecond. An event that is sent again after a restart gets the one that it had, so that it
// does not become a second one.
type EventClock struct {
	mu   sync.Mutex
	last int64 // given
	sent int64 // of an event that the cloud has
	save saver // writes sent
}

// LoadEventClock reads where the last run stopped.
func LoadEventClock(ctx context.Context, t mapping.Thing, b Bucket) (*EventClock, error) {
	key := mapping.Token(string(t))
	c := &EventClock{}
	c.save.write = func(ctx context.Context) error {
		c.mu.Lock()
		sent := c.sent
		c.mu.Unlock()
		return b.Put(ctx, key, strconv.AppendInt(nil, sent, 10))
	}
	raw, err := b.Get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return c, nil
	}
	if err == nil {
		c.last, err = strconv.ParseInt(string(raw), 10, 64)
	}
	if err != nil {
		return nil, fmt.Errorf("event clock of %s: %w", t, err)
	}
	c.sent = c.last
	return c, nil
}

// Stamp returns the timestamp of an event. keep tells that it must be saved before the event is forgotten, or the
// next run could give it out once more: the event brings none that is its own, or the clock is not there yet.
func (c *EventClock) Stamp(m Message, now time.Time) (ms int64, keep bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ms, keep = m.Stamp, false
	if ms == 0 {
		ms, keep = m.Received.UnixMilli(), true
	}
	if ms <= c.last {
		ms, keep = c.last+1, true
	}
	c.last = ms
	return ms, keep || ms > now.UnixMilli()
}

// Save makes it durable that the cloud has an event with this timestamp, and then calls settle.
func (c *EventClock) Save(ctx context.Context, ms int64, settle func()) {
	c.mu.Lock()
	c.sent = max(c.sent, ms)
	c.mu.Unlock()
	c.save.save(ctx, settle)
}
