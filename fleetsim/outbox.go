package fleetsim

import (
	"context"
	"time"
)

// outgoing is one message on its way down.
type outgoing struct {
	topic   string
	payload []byte
	// answer marks a reply to a device's question, which some misbehaviours pick on.
	answer bool
	// unheard, if set, is called with the simulator locked when nobody is subscribed.
	unheard func()
}

// maxOutgoing bounds what waits for a broker that is away.
const maxOutgoing = 65_536

// outbox sends downwards in order, one after the other.
type outbox struct {
	monitor
	queue   []outgoing
	held    *outgoing // waits to be overtaken
	sending bool
}

// idle returns when nothing waits to be sent.
func (o *outbox) idle(ctx context.Context) error {
	_, err := await(ctx, &o.monitor, "the outbox to be empty", func() (bool, bool) {
		return true, len(o.queue) == 0 && o.held == nil && !o.sending
	})
	return err
}

// push adds a message, behind the next one if it may wait for that. It reports false, and drops it,
// when the outbox is full.
func (o *outbox) push(m outgoing, wait time.Duration) bool {
	o.Lock()
	defer o.Unlock()
	if len(o.queue) >= maxOutgoing {
		return false
	}
	if wait > 0 && o.held == nil {
		held := &m
		o.held = held
		time.AfterFunc(wait, func() {
			o.Lock()
			defer o.Unlock()
			if o.held == held {
				o.queueHeld()
			}
		})
		return true
	}
	o.queue = append(o.queue, m)
	o.queueHeld()
	o.notify()
	return true
}

func (o *outbox) queueHeld() {
	if o.held != nil {
		o.queue = append(o.queue, *o.held)
		o.held = nil
		o.notify()
	}
}

func (o *outbox) run(ctx context.Context, s *Sim) error {
	for {
		batch, err := await(ctx, &o.monitor, "messages to send", func() ([]outgoing, bool) {
			batch := o.queue
			o.queue = nil
			if o.sending = len(batch) > 0; !o.sending {
				o.notify()
			}
			return batch, o.sending
		})
		if err != nil {
			return nil // ctx has ended
		}
		for _, m := range batch {
			heard, err := s.wire.publish(ctx, Publish{Topic: m.topic, Payload: m.payload, QoS: 1})
			switch {
			case ctx.Err() != nil:
				return nil
			case err != nil:
				s.log.Error("broker refused a message of the cloud", "topic", m.topic, "error", err)
			case !heard && m.unheard != nil:
				s.Lock()
				m.unheard()
				s.notify()
				s.Unlock()
			}
		}
	}
}

// send hands a message to the outbox, as often and as late as the misbehaviour says. The lock must
// be held, so that messages leave in the order of the changes that they tell of.
func (s *Sim) send(m outgoing) {
	if s.answering {
		s.behind = append(s.behind, m)
		return
	}
	fate := s.chaos.fate(m)
	if fate.drop {
		s.log.Info("misbehaviour: dropped", "topic", m.topic)
		return
	}
	if fate.payload != nil {
		m.payload = fate.payload
	}
	for range fate.copies {
		if fate.late > 0 {
			s.after(fate.late, func() { s.push(m, 0) })
			continue
		}
		s.push(m, fate.wait)
	}
}

func (s *Sim) push(m outgoing, wait time.Duration) {
	s.log.Debug("send", "topic", m.topic, "payload", string(m.payload))
	if !s.out.push(m, wait) {
		s.log.Error("dropped: too many messages wait for the broker", "topic", m.topic, "limit", maxOutgoing)
	}
}
