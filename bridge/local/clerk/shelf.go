package clerk

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/wire"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// consumerID is a consumer as its user names it.
type consumerID struct{ stream, name string }

// keptConsumer is a consumer as JetStream knows it.
type keptConsumer struct {
	real    string
	durable bool
	group   string // that pulls name; empty: a push consumer
}

// shelf has the consumers of a user. Some of those that are not durable may be gone.
type shelf struct {
	mu    sync.Mutex
	known map[consumerID]keptConsumer
	order []consumerID // of those that are not durable, oldest first
}

func (s *shelf) find(id consumerID) (keptConsumer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, there := s.known[id]
	return c, there
}

// add puts a consumer on the shelf and returns what has no room there any more.
func (s *shelf) add(id consumerID, c keptConsumer) (out []shelved) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[consumerID]keptConsumer{}
	}
	s.known[id] = c
	if !c.durable {
		s.order = append(s.order, id)
	}
	for len(s.order) > MaxConsumers {
		oldest := s.order[0]
		out = append(out, shelved{oldest, s.known[oldest]})
		s.order = slices.Delete(s.order, 0, 1)
		delete(s.known, oldest)
	}
	return out
}

// drop takes a consumer from the shelf, if it still is this one.
func (s *shelf) drop(id consumerID, real string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[id].real != real {
		return
	}
	delete(s.known, id)
	s.order = slices.DeleteFunc(s.order, func(o consumerID) bool { return o == id })
}

func (s *shelf) durables() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.known) - len(s.order)
}

// names lists the consumers of one stream.
func (s *shelf) names(stream string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []string{}
	for id := range s.known {
		if id.stream == stream {
			out = append(out, id.name)
		}
	}
	slices.Sort(out)
	return out
}

// Known are a user's consumers of a stream, by the names that the user gave them: the groups that pulls of theirs name. Nil:
// nobody is answered by that name.
func (c *Clerk) Known(user, stream string) map[string]string {
	r := c.readerOf(user)
	if r == nil {
		return nil
	}
	out := map[string]string{}
	for _, name := range r.shelf.names(stream) {
		kept, _ := r.shelf.find(consumerID{stream, name})
		out[name] = kept.group
	}
	return out
}

// shelved is a consumer with both its names.
type shelved struct {
	consumerID
	keptConsumer
}

func (s *shelf) all() (out []shelved) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, c := range s.known {
		out = append(out, shelved{id, c})
	}
	return out
}

// ShownName is the name that a user gave a consumer.
func ShownName(real string) string { return real[strings.LastIndex(real, ConsumerMark)+1:] }

// ConsumerOwner is the user whose consumer it is, or empty.
func ConsumerOwner(real string) string {
	if owner, rest, ok := strings.Cut(real, ConsumerMark); ok && strings.Count(rest, ConsumerMark) == 1 {
		return owner
	}
	return ""
}

// deleted hears that a consumer is gone, so that whoever asks for it is answered at once.
func (c *Clerk) deleted(m *nats.Msg) {
	tokens := strings.Split(m.Subject, ".")
	if len(tokens) < 7 {
		return
	}
	stream, real := tokens[5], tokens[6]
	if r := c.readerOf(ConsumerOwner(real)); r != nil {
		r.shelf.drop(consumerID{stream, ShownName(real)}, real)
	}
}

// forget removes the user's consumers, after close, but for the durable ones of a user that stays.
func (r *reader) forget(stays bool) {
	ctx, cancel := context.WithTimeout(context.Background(), wire.APITimeout)
	defer cancel()
	r.ctx = ctx
	for _, s := range r.shelf.all() {
		if !s.durable || !stays {
			r.remove(s)
		}
	}
}

func (r *reader) remove(s shelved) {
	if _, err := r.ask("CONSUMER.DELETE."+s.stream+"."+s.real, nil); err != nil && wire.APICode(err) != jetstream.JSErrCodeConsumerNotFound {
		r.log.Warn("a user's consumer was not removed", "user", r.name, "stream", s.stream, "consumer", s.real, "error", err)
	}
}

// takeStock puts every consumer that JetStream has for a user on its shelf, and has it read what is the user's now. Those
// that are nobody's any more it removes.
func (c *Clerk) takeStock(ctx context.Context) error {
	js, err := wire.JetStream(c.nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, wire.APITimeout)
	defer cancel()
	var failed error
	for _, readable := range access.Readables(c.subjects) {
		stream, err := js.Stream(ctx, readable.Stream)
		if err != nil {
			failed = cmp.Or(failed, fmt.Errorf("%s: %w", readable.Stream, err))
			continue
		}
		list := stream.ListConsumers(ctx)
		for info := range list.Info() {
			if owner := ConsumerOwner(info.Name); owner != "" {
				failed = cmp.Or(failed, c.take(ctx, stream, info))
			}
		}
		if err := list.Err(); err != nil {
			failed = cmp.Or(failed, fmt.Errorf("%s: %w", readable.Stream, err))
		}
	}
	return failed
}

// take looks at one consumer of a user's. With an error nobody answers for it, until it is looked at again.
func (c *Clerk) take(ctx context.Context, stream jetstream.Stream, info *jetstream.ConsumerInfo) error {
	r, config, name := c.readerOf(ConsumerOwner(info.Name)), info.Config, stream.CachedInfo().Config.Name
	have, filters := config.FilterSubjects, []string(nil)
	if config.FilterSubject != "" {
		have = []string{config.FilterSubject}
	}
	if r != nil {
		asked := slices.Clone(have)
		if whole := config.Metadata[MetaFilters]; whole != "" {
			_ = json.Unmarshal([]byte(whole), &asked) // else what it reads
		}
		if filters = common(asked, r.own(name)); tooMany(filters, r.own(name)) {
			filters = nil
		}
	}
	ungrouped := config.DeliverSubject == "" && len(config.PriorityGroups) == 0 // of an older version
	if len(filters) > 0 && (ungrouped || !slices.Equal(filters, have)) {
		if config.FilterSubject, config.FilterSubjects = "", filters; ungrouped {
			config.PriorityPolicy, config.PriorityGroups = jetstream.PriorityPolicyOverflow, []string{newGroup()}
		}
		var refused *jetstream.APIError
		if _, err := stream.UpdateConsumer(ctx, config); errors.As(err, &refused) && refused.Code < 500 {
			c.log.Error("a user's consumer can't be given what the user may read now, so it is removed", "consumer", info.Name, "error", err)
			filters = nil
		} else if err != nil {
			return fmt.Errorf("consumer %s of %s: %w", info.Name, name, err)
		}
	}
	if len(filters) == 0 {
		if err := stream.DeleteConsumer(ctx, info.Name); err != nil && wire.APICode(err) != jetstream.JSErrCodeConsumerNotFound {
			return fmt.Errorf("consumer %s of %s, which its user may not have: %w", info.Name, name, err)
		}
		c.log.Info("a consumer was removed with its user's right to it", "stream", name, "consumer", info.Name)
		return nil
	}
	id := consumerID{name, ShownName(info.Name)}
	if _, there := r.shelf.find(id); !there {
		kept := keptConsumer{real: info.Name, durable: config.Durable != ""}
		if len(config.PriorityGroups) > 0 {
			kept.group = config.PriorityGroups[0]
		}
		r.shelf.add(id, kept)
	}
	return nil
}
