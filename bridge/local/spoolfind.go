package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// waiting is a message that waits for the broker, as a Finder hears of it.
type waiting struct {
	Subject  string    `json:"subject"`
	At       time.Time `json:"at"`
	Sequence uint64    `json:"seq"`
	Payload  []byte    `json:"payload"`
}

// waitings are all that have an id, or some, and what the bridge remembers under it.
type waitings struct {
	Found   []waiting    `json:"found"`
	More    bool         `json:"more"` // not everything was looked at
	Records []remembered `json:"records"`
}

// remembered is a record of a command or a lease.
type remembered struct {
	Sort  string    `json:"sort"` // see records
	Key   string    `json:"key"`
	At    time.Time `json:"at"`
	Value []byte    `json:"value"`
}

// findSubject is where a bridge is asked for what waits under an id.
func findSubject(s mapping.Subjects) string { return "_" + s.Prefix() + ".find" }

// recall returns what is remembered of an execution or a job, as many bytes as there is room.
func (s *Spool) recall(id string, room *int) (out []remembered) {
	for _, sort := range [...]string{wire.BucketExecutions, wire.BucketLeases} {
		for _, key := range s.journal.Keys(sort + ".") {
			key = strings.TrimPrefix(key, sort+".")
			if !strings.HasSuffix(key, "."+mapping.Token(id)) || len(out) == maxFound {
				continue
			}
			value, at, err := s.records[sort].read(key)
			if err != nil || len(key)+len(value) > *room {
				continue
			}
			*room -= len(key) + len(value)
			out = append(out, remembered{sort, key, at, value})
		}
	}
	return out
}

// find looks through all lanes: for what has the id in its subject, and if there is none, in its payload or headers.
func (s *Spool) find(id string) waitings {
	room, end := int(s.store.nc.MaxPayload())/4, time.Now().Add(lookTime)
	recalled := s.recall(id, &room)
	named, mentioned := waitings{Records: recalled}, waitings{Records: recalled}
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
	return Mentions(e.payload, id) || SameTrace(e.trace.Parent, id) || e.id != "" && (e.id == id || e.id == wire.ShortID(id+" "+wire.HeaderText(e.subject)))
}

// ask asks the bridge of an embedded server what waits under an id, and what it remembers. there is false when no bridge
// answers.
func (f *Finder) ask(ctx context.Context, id string, out *Search) (there bool, err error) {
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
	for _, r := range answer.Records {
		if key := strings.Split(r.Key, "."); r.Sort == wire.BucketExecutions && len(key) == 3 {
			f.execution(out, id, Found{At: r.At}, key, r.Value)
		} else if r.Sort == wire.BucketLeases && len(key) == 2 {
			f.lease(out, id, Found{At: r.At}, key, r.Value)
		}
	}
	for _, w := range answer.Found {
		address, _, _ := addressOf(f.subjects, mapping.Thing(wire.ThingOf(strings.TrimPrefix(w.Subject, f.subjects.Prefix()+".up."))), w.Subject)
		out.Found = append(out.Found, Found{Place: PlaceWaits, At: w.At, Stream: f.streamOf(PlaceWaits, address), Sequence: w.Sequence, Address: address, Payload: w.Payload})
	}
	if answer.More {
		out.Left = append(out.Left, "the queues")
	}
	return true, nil
}
