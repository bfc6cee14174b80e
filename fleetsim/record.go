package fleetsim

import (
	"context"
	"slices"
	"time"
)

// Publish is one PUBLISH packet as a client sent it.
type Publish struct {
	ClientID string // empty when the broker is external, which does not tell
	Topic    string
	Payload  []byte
	QoS      byte
	Retain   bool
	Dup      bool
	User     []UserProperty
	At       time.Time
	// Refused is the reason code with which the broker answered, 0 if it took the message.
	Refused byte
}

// UserProperty is one MQTT 5 user property.
type UserProperty struct{ Key, Value string }

// defaultKeep bounds recordings unless Options.Keep says otherwise: enough for a load test.
const defaultKeep = 100_000

// recorder keeps the newest publishes.
type recorder struct {
	monitor
	keep    int
	dropped int // how many were forgotten, oldest first
	list    []Publish
}

func (r *recorder) add(p Publish) {
	r.Lock()
	defer r.Unlock()
	r.list, r.dropped = bounded(append(r.list, p), r.keep, r.dropped)
	r.notify()
}

// bounded forgets the oldest quarter of a list that has grown beyond keep.
func bounded[T any](list []T, keep, dropped int) ([]T, int) {
	if keep == 0 {
		keep = defaultKeep
	}
	if len(list) <= keep {
		return list, dropped
	}
	n := keep/4 + 1
	return slices.Delete(list, 0, n), dropped + n
}

func (r *recorder) all() []Publish {
	r.Lock()
	defer r.Unlock()
	return slices.Clone(r.list)
}

func (r *recorder) wait(ctx context.Context, match func(Publish) bool) (Publish, error) {
	next := 0
	return await(ctx, &r.monitor, "a PUBLISH", func() (Publish, bool) {
		for next = max(next, r.dropped); next < r.dropped+len(r.list); next++ {
			if p := r.list[next-r.dropped]; match(p) {
				return p, true
			}
		}
		return Publish{}, false
	})
}
