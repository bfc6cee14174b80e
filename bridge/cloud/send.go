package cloud

import (
	"context"

	"fleetbridge/bridge"
)

// Send implements bridge.Sink: the message is published, over as many connections as it takes, until
// the broker has it or refuses it, or it expires. Send blocks only while Window messages of the class are handed over
// and unacknowledged. done runs on the connection's reader: it must not block.
func (s *Session) Send(ctx context.Context, m bridge.Message, done func(error)) error {
	if err := occupy(ctx, s.places[m.Address.Route().Class]); err != nil {
		return err
	}
	e := &entry{message: m, topic: m.Address.Topic(), done: done}
	s.mu.Lock()
	s.out.add(e)
	l := s.link
	s.mu.Unlock()
	l.nudge()
	return nil
}

// Ask implements bridge.Link: the message goes behind the control messages, ahead of telemetry. When
// the session is not connected, or the connection is lost before the acknowledgement, done gets
// bridge.ErrNotConnected and the message is not sent again. Ask blocks only while Window questions are
// unacknowledged.
func (s *Session) Ask(ctx context.Context, m bridge.Message, done func(error)) error {
	if err := occupy(ctx, s.questions); err != nil {
		return err
	}
	e := &entry{message: m, topic: m.Address.Topic(), done: done, volatile: true}
	s.mu.Lock()
	up, l := s.out.up, s.link
	if up {
		s.out.add(e)
	}
	s.mu.Unlock()
	if !up {
		s.complete(completion{e, bridge.ErrNotConnected})
		return nil
	}
	l.nudge()
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
	if c.entry.volatile {
		<-s.questions
	} else {
		<-s.places[c.entry.message.Address.Route().Class]
	}
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
