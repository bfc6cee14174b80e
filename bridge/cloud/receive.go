package cloud

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// receive takes a message, of any QoS. QoS 2 is never asked for, but a session that another client began
// may still hold such messages: they are taken like QoS 1, at least once. It waits for room before it reads
// the message, so that what waits in memory is bounded by bytes, whatever the broker sends.
func (l *link) receive(first byte, b *body) error {
	in := l.s.inbox
	largest := overhead + min(b.left, maxTopic+l.s.cfg.MaxPayload)
	held := in.reserve(l.ctx, largest)
	if held == nil {
		return context.Cause(l.ctx)
	}
	p, err := readArrival(first, b, l.s.cfg.MaxPayload)
	if err == nil {
		err = l.aliases.resolve(&p)
	}
	if err != nil {
		held.drop()
		return l.goodbye(err)
	}
	it := item{held: held}
	settle := held.drop
	if p.qos() > 0 {
		it.session = l.session
		if !l.acks.receive(&p) {
			held.drop()
			return nil
		}
		settle = func() {
			l.acks.settle()
			held.drop()
		}
	}
	it.delivery = delivery(l.s.thing, &p, time.Now(), settle)
	held.resize(footprint(&it.delivery))
	in.put(it)
	return nil
}

// goodbye says to the broker what it did wrong, if it was that.
func (l *link) goodbye(err error) error {
	if wrong := (*mistake)(nil); errors.As(err, &wrong) {
		_ = l.conn.send(appendGoodbye(nil, wrong.code))
	}
	return err
}

// aliases are the topics that the broker set topic aliases for on one connection. The session allows none;
// some brokers use them all the same, and what they mean is clear.
type aliases struct {
	topics map[uint16]string
	bytes  int
}

// maxAliases bounds the topics, in bytes: a thing has a dozen that are sent to it, of some fifty bytes.
const maxAliases = 16 << 10

// resolve gives a message that has only an alias its topic.
func (a *aliases) resolve(p *arrival) error {
	if p.alias == 0 {
		return nil
	}
	if p.topic == "" {
		topic, ok := a.topics[p.alias]
		if !ok {
			return &mistake{topicAliasInvalid, fmt.Sprintf("PUBLISH with the topic alias %d, which was not set on this connection", p.alias)}
		}
		p.topic = topic
		return nil
	}
	more := len(p.topic) + aliasOverhead
	if old, ok := a.topics[p.alias]; ok {
		more = len(p.topic) - len(old)
	}
	if a.bytes+more > maxAliases {
		return &mistake{topicAliasInvalid, fmt.Sprintf("PUBLISH with the topic alias %d: none is allowed, and more are used than can be understood", p.alias)}
	}
	if a.topics == nil {
		a.topics = map[uint16]string{}
	}
	a.bytes += more
	a.topics[p.alias] = p.topic
	return nil
}

// aliasOverhead is about what an entry takes beside its topic.
const aliasOverhead = 64
