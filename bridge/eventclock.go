package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	Log *slog.Logger // nil: nothing is said

	damage error // why what the last run wrote was given up; nil: it was not

	mu     sync.Mutex
	given  StampClock
	sent   int64 // of an event that the cloud has
	save   saver // writes sent
	warned time.Duration
}

// LoadEventClock reads where the last run stopped. A mark that can't be read is given up, with a note in damage: events
// without a timestamp then get the time of now, as with a new store.
func LoadEventClock(ctx context.Context, t mapping.Thing, b State) (*EventClock, error) {
	key := mapping.Token(string(t))
	c := &EventClock{}
	c.save.thing, c.save.what = t, "to write the event clock"
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
	if err != nil {
		return nil, fmt.Errorf("event clock of %s: %w", t, err)
	}
	if c.given.Last, c.damage = strconv.ParseInt(string(raw), 10, 64); c.damage != nil {
		c.given.Last = 0
	}
	c.sent = c.given.Last
	return c, nil
}

// Stamp returns the timestamp of an event. keep tells that it must be saved before the event is forgotten, or the
// next run could give it out once more: the event brings none that is its own, or the clock is not there yet.
//
// What a clock gave out that was far ahead is not followed: once the clock is right again, so are the timestamps.
func (c *EventClock) Stamp(m Message, now time.Time) (ms int64, keep bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ms = m.Stamp
	if ms == 0 {
		ms, keep = m.Received.UnixMilli(), true
	}
	if ahead := c.given.SetBack(now); ahead > 0 {
		c.sent, keep = 0, true
		c.setBack(ahead)
	}
	if farAhead(m.Received, now) {
		ms, keep = now.UnixMilli(), true
		c.setBack(m.Received.Sub(now))
	}
	next := c.given.Next(ms)
	return next, keep || next > ms || next > now.UnixMilli()
}

// setBack warns once per change.
func (c *EventClock) setBack(ahead time.Duration) {
	if c.Log == nil || (ahead-c.warned).Abs() < marksAhead {
		return
	}
	c.warned = ahead
	c.Log.Warn("events were stamped by a clock that was ahead and has been set back; those without a timestamp get the time of now", "ahead", ahead.Round(time.Second))
}

// Save makes it durable that the cloud has an event with this timestamp, and then calls settle.
func (c *EventClock) Save(ctx context.Context, ms int64, settle func()) {
	c.mu.Lock()
	c.sent = max(c.sent, ms)
	c.mu.Unlock()
	c.save.save(ctx, settle)
}
