package cloud

import (
	"fmt"
	"time"

	"fleetbridge/mapping"
)

// memory is what the broker is known to refuse, so that it need not be found out again for each message. It forgets after
// a while. A new Session, as after a reload, begins without it.
type memory struct {
	bad  map[string]*badTopic
	good [goodTopics]string // a ring of topics that passed lately
	next int
	last string
	mute map[mapping.Channel]*muted
}

// badTopic is a topic on which a message was refused while others of its kind passed on other topics.
type badTopic struct {
	why   *refusal
	at    time.Time
	until time.Time
}

// muted is a question after which connections end.
type muted struct {
	strikes int // connections in a row
	until   time.Time
	why     string
}

const (
	badFor     = 10 * time.Minute
	badTopics  = 256
	goodTopics = 64

	muteStrikes = 2 // connections in a row, and the question is not asked for a while
	muteLeast   = time.Minute
	muteMost    = time.Hour
)

func newMemory() memory {
	return memory{bad: map[string]*badTopic{}, mute: map[mapping.Channel]*muted{}}
}

// taken notes that a message on the topic passed.
func (m *memory) taken(topic string) {
	delete(m.bad, topic)
	if topic == m.last || m.passed(topic) {
		m.last = topic
		return
	}
	m.last = topic
	m.good[m.next] = topic
	m.next = (m.next + 1) % goodTopics
}

func (m *memory) passed(topic string) bool {
	for _, t := range m.good {
		if t == topic {
			return true
		}
	}
	return false
}

// refused notes that a message on the topic was refused for good while one on another topic was taken. If the topic itself
// has passed before, the payload was the reason, and nothing is noted.
func (m *memory) refused(topic, passed string, why *refusal, now time.Time) {
	if topic == passed || m.passed(topic) || why.tries() > 3 {
		return
	}
	for t, b := range m.bad {
		if len(m.bad) >= badTopics || now.After(b.until) {
			delete(m.bad, t)
		}
	}
	m.bad[topic] = &badTopic{why: why, at: now, until: now.Add(badFor)}
}

// refuses reports whether a topic is already known to be refused in this way.
func (m *memory) refuses(topic string, why *refusal, now time.Time) bool {
	b := m.bad[topic]
	return b != nil && now.Before(b.until) && b.why.code == why.code && b.why.fatal == why.fatal
}

// hung says why nothing is sent on a topic; empty: it may be.
func (m *memory) hung(topic string, now time.Time) string {
	b := m.bad[topic]
	if b == nil || !b.why.hung || now.After(b.until) {
		return ""
	}
	return fmt.Sprintf("not sent: the broker hung up over a message on this topic at %s (%s); it is tried again after %s",
		b.at.UTC().Format(time.RFC3339), b.why.words, b.until.UTC().Format(time.RFC3339))
}

// hungUp notes that a connection ended over a question.
func (m *memory) hungUp(c mapping.Channel, end loss) {
	q := m.mute[c]
	if q == nil {
		q = &muted{}
		m.mute[c] = q
	}
	q.strikes++
	if q.strikes >= muteStrikes {
		d := doubled(muteLeast, q.strikes-muteStrikes, muteMost)
		q.until = end.at.Add(d)
		q.why = fmt.Sprintf("%s is not asked for %v: the broker hung up over it on %d connections in a row: %v", c, d, q.strikes, end.cause)
	}
}

// answered notes that a question was answered: it may be asked again.
func (m *memory) answered(c mapping.Channel) { delete(m.mute, c) }

// muted says why a question is not asked; empty: it may be.
func (m *memory) muted(c mapping.Channel, now time.Time) string {
	if q := m.mute[c]; q != nil && now.Before(q.until) {
		return q.why
	}
	return ""
}
