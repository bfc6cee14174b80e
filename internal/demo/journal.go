package demo

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/mapping"
)

// journal makes an account of messages out of what the taps see. A message is seen twice, on NATS and at
// the broker; the taps are not in step with each other, so either may come first.
type journal struct {
	subjects mapping.Subjects

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced with every change
	rows     []*row        // in the order in which they were first seen
	replies  map[string]*row
	replayed uint64 // what FLEETS_DOWN held before the tap was there
	sent     int    // messages from the cloud
	warnings []string
}

func newJournal(s mapping.Subjects) *journal {
	return &journal{subjects: s, changed: make(chan struct{}), replies: map[string]*row{}}
}

// enter locks the journal; the function that it returns unlocks it and wakes who waits.
func (j *journal) enter() (leave func()) {
	j.mu.Lock()
	return func() {
		close(j.changed)
		j.changed = make(chan struct{})
		j.mu.Unlock()
	}
}

func (j *journal) add(r *row) *row {
	r.at = time.Now()
	if r.what == "" {
		r.what = name(r.address.Channel)
	}
	j.rows = append(j.rows, r)
	return r
}

// find returns the oldest row that goes on and matches.
func (j *journal) find(match func(*row) bool) *row {
	for _, r := range j.rows {
		if !r.over && match(r) {
			return r
		}
	}
	return nil
}

// handlerReplies is where the bridge has the handlers of commands answer.
func (j *journal) handlerReplies() string { return "_" + j.subjects.Prefix() + ".reply." }

func (j *journal) isReply(subject string) bool {
	return strings.HasPrefix(subject, "_INBOX") || strings.HasPrefix(subject, j.handlerReplies())
}

// sawNATS takes a message that passed the NATS server.
func (j *journal) sawNATS(m *nats.Msg) {
	defer j.enter()()
	if j.isReply(m.Subject) {
		j.reply(m)
		return
	}
	space, tail := j.split(m.Subject)
	address, _ := mapping.ParseTail(mapping.Space(space).Direction(), tail) // without a channel if it is none
	switch mapping.Space(space) {
	case mapping.SpaceUp:
		j.up(m, address, tail)
	case mapping.SpaceReq:
		j.request(m, address, tail)
	case mapping.SpaceDown:
		j.down(m, address, tail)
	case mapping.SpaceDeadUp, mapping.SpaceDeadDown:
		j.dead(m, address, tail)
	default:
		j.command(m)
	}
}

// split cuts a subject into space and tail; a command's has neither.
func (j *journal) split(subject string) (space, tail string) {
	rest := strings.TrimPrefix(subject, j.subjects.Prefix()+".")
	for _, s := range []mapping.Space{mapping.SpaceUp, mapping.SpaceDown, mapping.SpaceReq, mapping.SpaceDeadUp, mapping.SpaceDeadDown} {
		if tail, ok := strings.CutPrefix(rest, string(s)+"."); ok {
			return string(s), tail
		}
	}
	return "", ""
}

// who tells the program by its inbox: every program of the demo has a prefix of its own. What has none
// is the bridge's, if it carries a message id, as the bridge's responses do; or else it is yours.
func (j *journal) who(m *nats.Msg) string {
	if own, ok := strings.CutPrefix(m.Reply, inboxPrefix); ok {
		name, _, _ := strings.Cut(own, ".")
		return name
	}
	if m.Header.Get(nats.MsgIdHdr) != "" {
		return "bridge"
	}
	return "you"
}

func (j *journal) up(m *nats.Msg, a mapping.Address, tail string) {
	r := j.find(func(r *row) bool {
		return r.up && r.tail == tail && !r.stored && (r.kind != plain || r.subject == "") && !(r.kind == request && r.asks()) && fits(m.Data, r.payload)
	})
	if r == nil {
		r = j.add(&row{up: true, address: a, tail: tail})
	}
	if r.subject == "" {
		r.passed(j.who(m), m.Subject, m.Data)
	}
	r.stored = true
}

func (j *journal) request(m *nats.Msg, a mapping.Address, tail string) {
	r := j.find(func(r *row) bool {
		if a.Channel == "" {
			return r.kind == fetch && !r.printed
		}
		return r.up && r.asks() && r.tail == tail && r.subject == "" && !r.printed && fits(m.Data, r.payload)
	})
	if r == nil {
		r = j.add(&row{address: a, tail: tail})
	}
	r.kind, r.up, r.what = request, true, "question"
	if a.Channel != "" {
		r.what = name(a.Channel)
	}
	r.passed(j.who(m), m.Subject, m.Data)
	j.replies[m.Reply] = r
}

func (j *journal) down(m *nats.Msg, a mapping.Address, tail string) {
	if n, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64); err == nil && n <= j.replayed {
		return // known from the replay
	}
	r := j.find(func(r *row) bool { return !r.up && r.tail == tail && !r.stored && !r.printed })
	if r == nil {
		r = j.add(&row{address: a, tail: tail, topic: m.Header.Get("Fleets-Topic")})
	}
	if m.Header.Get("Fleets-Source") != "" {
		r.topic = shadowAPI
	}
	if r.subject == "" { // or else the bridge has called a program already
		r.passed("programs", m.Subject, m.Data)
	}
	r.stored = true
}

// dead takes a dead letter: the end of the message that it was.
func (j *journal) dead(m *nats.Msg, a mapping.Address, tail string) {
	up := strings.Contains(m.Subject, ".dead.up.")
	topic := m.Header.Get("Fleets-Topic")
	r := j.find(func(r *row) bool {
		return r.up == up && (up && r.tail == tail && r.topic == "" && !r.dead && fits(r.payload, m.Data) || !up && r.topic == topic && r.subject == "")
	})
	if r == nil {
		r = j.add(&row{up: up, address: a, tail: tail, payload: m.Data})
	}
	r.dead = true
	if !up {
		r.who, r.subject, r.over = "bridge", "dead letter", true
	}
	r.notes = append(r.notes, note{"dead letter", m.Subject}, note{m.Header.Get("Fleets-Error-Code"), m.Header.Get("Fleets-Error")})
}

// command takes the bridge's call of a program: the request has found its way.
func (j *journal) command(m *nats.Msg) {
	id := m.Header.Get("Fleets-Execution")
	r := j.find(func(r *row) bool {
		return !r.up && r.address.Channel == mapping.CommandRequest && r.address.ID == id
	})
	if r == nil {
		r = j.add(&row{address: mapping.Address{Thing: Thing, Channel: mapping.CommandRequest, ID: id}, payload: m.Data})
	}
	r.who, r.subject = thermostatName, m.Subject
	j.replies[m.Reply] = r
}

// reply takes what came back to somebody's inbox: a program's reply to a command, or the bridge's answer
// to a program.
func (j *journal) reply(m *nats.Msg) {
	to := j.replies[m.Subject]
	if to == nil {
		return
	}
	delete(j.replies, m.Subject)
	code := m.Header.Get("Nats-Service-Error-Code")
	if to.kind != request {
		j.response(m, to)
		return
	}
	to.answered = true
	if code != "" && !to.asks() {
		to.dead, to.over = true, true // refused, not stored
	}
	var r *row
	if to.address.Channel != "" {
		route := to.address.Route()
		r = j.find(func(r *row) bool {
			return !r.up && r.subject == "" && r.topic != "" && r.address.ID == to.address.ID &&
				(r.address.Channel == route.Accepted || r.address.Channel == route.Rejected)
		})
	}
	if r == nil {
		r = j.add(&row{what: "answer"})
		if to.address.Channel == "" {
			r.topic = to.topic
		}
	}
	r.kind, r.who, r.subject, r.payload = reply, to.who, "the reply to the request", m.Data
	if code != "" {
		r.what, r.payload = "error "+code, []byte(m.Header.Get("Nats-Service-Error"))
	}
	if m.Header.Get("Fleets-Stale") != "" {
		r.notes = append(r.notes, note{"header", "Fleets-Stale: " + m.Header.Get("Fleets-Stale")})
	}
}

// response takes a program's reply to a command.
func (j *journal) response(m *nats.Msg, to *row) {
	a := to.address
	a.Channel = mapping.CommandResponse
	r := j.find(func(r *row) bool { return r.up && r.tail == a.Tail() && r.kind == plain && !r.printed })
	if r == nil {
		r = j.add(&row{up: true, address: a, tail: a.Tail()})
	}
	r.kind = reply
	r.passed(to.who, "the reply to the command", m.Data)
}

// sawMQTT takes a message that passed the broker.
func (j *journal) sawMQTT(up bool, topic string, payload []byte) {
	defer j.enter()()
	direction := mapping.Down
	if up {
		direction = mapping.Up
	}
	a, err := mapping.ParseTopic(direction, topic)
	tail := ""
	if err == nil {
		tail = a.Tail()
	}
	if !up {
		j.sent++
		j.add(&row{address: a, tail: tail, topic: topic, payload: payload})
		return
	}
	r := j.find(func(r *row) bool {
		return r.up && r.topic == "" && !r.dead && r.tail == tail && fits(r.payload, payload)
	})
	switch {
	case r == nil:
		j.add(&row{up: true, address: a, tail: tail, who: "bridge", topic: topic, payload: payload, wire: payload})
	case r.printed: // stored while the link was down
		r.over = true
		j.add(&row{up: true, address: a, tail: tail, stored: true, who: "bridge", subject: fromStore, topic: topic, payload: payload})
	default:
		r.topic, r.wire = topic, payload
	}
}

// sawGet takes a request for the shadow document.
func (j *journal) sawGet(version string) {
	defer j.enter()()
	r := j.find(func(r *row) bool { return r.kind == request && r.address.Channel == "" && r.topic == "" })
	if r != nil {
		r.topic = shadowAPI
		return
	}
	j.add(&row{kind: fetch, who: "bridge", subject: "by itself, at each connection", topic: shadowAPI, what: "shadow", payload: []byte("version " + version)})
}

// fromStore stands where a subject does, for a message that was printed when it was stored.
const fromStore = "from its store"

// shadowAPI stands where a topic does.
const shadowAPI = "GET …/shadow over HTTP"

// warn takes a line of the log.
func (j *journal) warn(who, text string) {
	defer j.enter()()
	j.add(&row{kind: warning, who: who, what: "warning", payload: []byte(text)})
	if who == "bridge" {
		j.warnings = append(j.warnings, text)
	}
}

// dropped notes that the bridge is known to have dropped the newest message of an address.
func (j *journal) dropped(a mapping.Address, why string) {
	defer j.enter()()
	if r := j.find(func(r *row) bool { return !r.up && r.address == a && r.subject == "" }); r != nil {
		r.who, r.subject, r.over = "bridge", why, true
	}
}

// settle waits until everything that was seen on one side was seen on the other, or patience ends.
func (j *journal) settle(ctx context.Context, patience time.Duration) {
	end := time.NewTimer(patience)
	defer end.Stop()
	for {
		j.mu.Lock()
		open, changed := false, j.changed
		for _, r := range j.rows {
			open = open || !r.printed && !r.complete()
		}
		j.mu.Unlock()
		if !open {
			return
		}
		select {
		case <-changed:
		case <-end.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// memory is how long a message that was printed half way is remembered for its other half.
const memory = time.Minute

// take returns the rows that are to be printed now: all, or those that are complete or older than age.
// It stops at the first that is neither, so that the order stays.
func (j *journal) take(age time.Duration) []row {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []row
	for _, r := range j.rows {
		if r.printed {
			continue
		}
		if age > 0 && !r.complete() && time.Since(r.at) < age {
			break
		}
		r.printed = true
		out = append(out, *r)
	}
	kept := j.rows[:0]
	for _, r := range j.rows {
		if !r.printed || !r.complete() && time.Since(r.at) < memory {
			kept = append(kept, r)
		}
	}
	clear(j.rows[len(kept):])
	j.rows = kept
	for inbox, r := range j.replies {
		if time.Since(r.at) > memory {
			delete(j.replies, inbox)
		}
	}
	return out
}
