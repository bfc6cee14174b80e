package cloud

import (
	"context"
	"time"

	"fleetbridge/bridge"
)

// Send implements bridge.Sink: the message is published, over as many connections as it takes, until
// the broker has it or refuses it while it takes others of the kind, or it expires. A kind of which the broker takes
// nothing stands still, and only that; see State.Standing. Send blocks only while Window messages of the kind are handed
// over and unacknowledged. done runs on the connection's reader: it must not block.
func (s *Session) Send(ctx context.Context, m bridge.Message, done func(error)) error {
	e := &entry{message: m, topic: m.Address.Topic(), done: done}
	if err := occupy(ctx, s.places[laneOf(e)]); err != nil {
		return err
	}
	s.mu.Lock()
	s.out.add(e)
	l := s.link
	s.mu.Unlock()
	l.nudge()
	return nil
}

// Ask implements bridge.Link: the message goes behind what waits of commands and jobs, ahead of shadow and events, and
// for no kind that stands still. When the session is not connected, or the connection is lost before the
// acknowledgement, done gets bridge.ErrNotConnected and the message is not sent again. What the broker refuses is a
// *bridge.Rejection at once, and so is for a while a question over which it hung up on several connections in a row. Ask
// blocks only while Window questions are unacknowledged.
func (s *Session) Ask(ctx context.Context, m bridge.Message, done func(error)) error {
	e := &entry{message: m, topic: m.Address.Topic(), done: done, volatile: true}
	if err := occupy(ctx, s.places[laneOf(e)]); err != nil {
		return err
	}
	s.mu.Lock()
	muted := s.out.memory.muted(m.Address.Channel, time.Now())
	up, l := s.out.up && !s.out.held(), s.link
	if up && muted == "" {
		s.out.add(e)
	}
	s.mu.Unlock()
	switch {
	case muted != "":
		s.complete(completion{e, bridge.Rejectf(bridge.CodeRefused, "%s", muted)})
	case !up:
		s.complete(completion{e, bridge.ErrNotConnected})
	default:
		l.nudge()
	}
	return nil
}

// InFlight is the number of messages handed over and not completed.
func (s *Session) InFlight() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.waiting()
}

// complete gives the place back and reports. The session's lock is not held.
func (s *Session) complete(c completion) {
	<-s.places[laneOf(c.entry)]
	c.entry.done(c.err)
}

func occupy(ctx context.Context, places chan struct{}) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var (
	_ bridge.Sink   = (*Session)(nil)
	_ bridge.Source = (*Session)(nil)
	_ bridge.Link   = (*Session)(nil)
)
