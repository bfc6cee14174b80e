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
// severity and millisecond.
type EventClock struct {
	mu   sync.Mutex
	last int64
	save saver
}

// clockPause is how far the bucket may be behind while nobody waits.
const clockPause = 100 * time.Millisecond

// LoadEventClock reads where the last run stopped.
func LoadEventClock(ctx context.Context, t mapping.Thing, b Bucket) (*EventClock, error) {
	key := mapping.Token(string(t))
	c := &EventClock{}
	c.save.pause = clockPause
	c.save.write = func(ctx context.Context) error {
		c.mu.Lock()
		last := c.last
		c.mu.Unlock()
		return b.Put(ctx, key, strconv.AppendInt(nil, last, 10))
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
	return c, nil
}

// Stamp returns the timestamp of an event that was taken at this time. ahead tells that it had to run
// ahead of the time; then it must be saved before the event is forgotten, or the next run could give it
// out once more.
func (c *EventClock) Stamp(taken time.Time) (ms int64, ahead bool) {
	ms = taken.UnixMilli()
	c.mu.Lock()
	defer c.mu.Unlock()
	if ms <= c.last {
		ms, ahead = c.last+1, true
	}
	c.last = ms
	return ms, ahead
}

// Save makes the clock durable and then calls settle.
func (c *EventClock) Save(ctx context.Context, settle func()) { c.save.save(ctx, settle) }
