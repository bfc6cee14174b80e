package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/mapping"
)

// waiting is a message that waits for the broker, as a Finder hears of it.
type waiting struct {
	Subject  string    `json:"subject"`
	At       time.Time `json:"at"`
	Sequence uint64    `json:"seq"`
	Payload  []byte    `json:"payload"`
}

// waitings are all that have an id, or some.
type waitings struct {
	Found []waiting `json:"found"`
	More  bool      `json:"more"` // not everything was looked at
}

// findSubject is where a bridge is asked for what waits under an id.
func findSubject(s mapping.Subjects) string { return "_" + s.Prefix() + ".find" }

// find looks through all lanes: for what has the id in its subject, and if there is none, in its payload or headers.
func (s *Spool) find(id string) waitings {
	named, mentioned := waitings{}, waitings{}
	room, end := int(s.store.nc.MaxPayload())/4, time.Now().Add(lookTime)
	add := func(to *waitings, number uint64, e *entry) {
		if room -= len(e.payload) + len(e.subject); len(to.Found) >= maxFound || room < 0 {
			to.More = true
			return
		}
		to.Found = append(to.Found, waiting{e.subject, e.received, s.sequence(number, e), e.payload})
	}
	for _, b := range s.journal.Lanes() {
		for number, e := range s.entries(b.Lane, 0, readBytes) {
			switch {
			case e.names(id):
				add(&named, number, e)
			case e.mentions(id):
				add(&mentioned, number, e)
			}
			if time.Now().After(end) {
				named.More, mentioned.More = true, true
				break
			}
		}
	}
	if len(named.Found) > 0 {
		return named
	}
	return mentioned
}

// names reports whether the subject has the id of a command's execution or a job.
func (e *entry) names(id string) bool {
	token := "." + mapping.Token(id) + "."
	return strings.Contains(e.subject, ".commands"+token) || strings.Contains(e.subject, ".jobs"+token)
}

// mentions reports whether the payload or a header has the id; see has.
func (e *entry) mentions(id string) bool {
	return Mentions(e.payload, id) || SameTrace(e.trace.Parent, id) || e.id != "" && (e.id == id || e.id == shortID(id+" "+headerText(e.subject)))
}

// waiting asks the bridge of an embedded server what waits under an id. there is false when no bridge answers.
func (f *Finder) waiting(ctx context.Context, id string, out *Search) (there bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*lookTime)
	defer cancel()
	m, err := f.nc.RequestWithContext(ctx, findSubject(f.subjects), []byte(id))
	if errors.Is(err, nats.ErrNoResponders) {
		return false, nil
	}
	var answer waitings
	if err == nil {
		err = json.Unmarshal(m.Data, &answer)
	}
	if err != nil {
		return true, fmt.Errorf("asking the bridge for what waits: %w", err)
	}
	for _, w := range answer.Found {
		address, _, _ := addressOf(f.subjects, mapping.Thing(thingOf(strings.TrimPrefix(w.Subject, f.subjects.Prefix()+".up."))), w.Subject)
		out.Found = append(out.Found, Found{Place: PlaceWaits, At: w.At, Stream: f.streamOf(PlaceWaits, address), Sequence: w.Sequence, Address: address, Payload: w.Payload})
	}
	if answer.More {
		out.Left = append(out.Left, "the queues")
	}
	return true, nil
}
