package clerk

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

const (
	// MaxConsumers is how many a user may have on all streams. The oldest goes when there is one more:
	// most that were ever made are gone, and clients make a new one when theirs is.
	MaxConsumers = 256
	// MaxDurables is how many of them may have a name that outlives restarts. One more is refused: nothing but the
	// program knows which of them it still needs.
	MaxDurables = 16
	// MaxInactive is how long a consumer may be without anybody who takes from it.
	MaxInactive = 5 * time.Minute
	maxPending  = 1000 // unacknowledged messages of a consumer
	maxWaiting  = 512  // questions to a consumer
	// ConsumerMark is in no user's name, so that a consumer's name tells whose it is.
	ConsumerMark    = "="
	maxConsumerName = 64
)

// consumerConfig is what JetStream is asked for.
type consumerConfig struct {
	Name          string        `json:"name"`
	Durable       string        `json:"durable_name,omitempty"`
	Description   string        `json:"description,omitempty"`
	Group         string        `json:"deliver_group,omitempty"`
	DeliverTo     string        `json:"deliver_subject,omitempty"`
	Filters       []string      `json:"filter_subjects"`
	DeliverPolicy string        `json:"deliver_policy"`
	AckPolicy     string        `json:"ack_policy"`
	ReplayPolicy  string        `json:"replay_policy"`
	StartSeq      uint64        `json:"opt_start_seq,omitempty"`
	StartTime     *time.Time    `json:"opt_start_time,omitempty"`
	AckWait       time.Duration `json:"ack_wait,omitempty"`
	MaxDeliver    int           `json:"max_deliver,omitempty"`
	MaxWaiting    int           `json:"max_waiting,omitempty"`
	MaxPending    int           `json:"max_ack_pending,omitempty"`
	FlowControl   bool          `json:"flow_control,omitempty"`
	HeadersOnly   bool          `json:"headers_only,omitempty"`
	Heartbeat     time.Duration `json:"idle_heartbeat,omitempty"`
	Inactive      time.Duration `json:"inactive_threshold"`
	RateLimit     uint64        `json:"rate_limit_bps,omitempty"`
	Replicas      int           `json:"num_replicas"`
	Memory        bool          `json:"mem_storage"`
	Metadata      metadata      `json:"metadata,omitempty"`

	// Programs ask for none of these.
	Priority priority `json:"priority_policy,omitempty"`
	Groups   groups   `json:"priority_groups,omitempty"`
}

// metadata is the bridge's own; what programs ask for is left out.
type metadata map[string]string

// UnmarshalJSON implements json.Unmarshaler.
func (*metadata) UnmarshalJSON([]byte) error { return nil }

// consumerRequest is what a user may ask of a consumer. What is not here is left out; what would be
// dangerous to leave out is refused.
type consumerRequest struct {
	Config struct {
		consumerConfig
		Filter string `json:"filter_subject"`
	} `json:"config"`
	Action string `json:"action"` // create, update, or both
}

// createConsumer makes a consumer over the user's part of a stream, or changes it. A consumer is reached by its name
// alone, so it gets one that no other user can know: the user's, a secret, and what the client asked for. The client
// sees its own name.
func (r *reader) createConsumer(stream string, body []byte) (map[string]any, error) {
	if r.own(stream) == nil {
		return nil, r.notReadable(stream)
	}
	var q consumerRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, badAPIRequest(err)
	}
	config, err := r.permitted(stream, &q)
	if err != nil {
		return nil, err
	}
	id := consumerID{stream, ShownName(config.Name)}
	known, there := r.shelf.find(id)
	if there {
		if config.Name = known.real; known.group != "" && config.Groups != nil {
			config.Groups = groups{known.group}
		}
	} else if config.Durable != "" && r.shelf.durables() >= MaxDurables {
		return nil, wire.Refuse("user %s has %d durable consumers, which is all that it may have; delete one, or use an ordered consumer", r.name, MaxDurables)
	}
	if config.Durable != "" {
		config.Durable = config.Name
	}
	// A push consumer is asked for in the subject with one token of name; the body has the filters.
	answer, err := r.ask("CONSUMER.CREATE."+stream+"."+config.Name, map[string]any{"stream_name": stream, "config": config, "action": q.Action})
	if err != nil {
		return nil, err
	}
	if !there {
		for _, oldest := range r.shelf.add(id, config.kept()) {
			r.remove(oldest)
		}
	}
	return r.undisguise(answer), nil
}

// permitted is what remains of a request.
func (r *reader) permitted(stream string, q *consumerRequest) (*consumerConfig, error) {
	c := &q.Config
	asked := c.Filters
	if c.Filter != "" {
		asked = append(asked, c.Filter)
	}
	if len(asked) == 0 {
		asked = []string{">"}
	}
	if len(asked) > maxFilters {
		return nil, wire.Refuse("there are %d filters, and a consumer may have %d; use wildcards", len(asked), maxFilters)
	}
	filters := common(asked, r.own(stream))
	name := cmp.Or(c.Name, c.Durable)
	to, delivers := r.way(c.DeliverTo)
	switch {
	case len(filters) == 0:
		return nil, wire.Refuse("nothing of %.200q is the user's", strings.Join(asked, ", "))
	case tooMany(filters, r.own(stream)):
		return nil, wire.Refuse("the filters and the user's %d Things make more filters than a consumer may have; use wildcards", len(r.own(stream)))
	case c.Name != "" && c.Durable != "" && c.Name != c.Durable:
		return nil, badAPIRequest(fmt.Errorf("name is %.80q and durable_name %.80q, give one", c.Name, c.Durable))
	case !nameable(name):
		return nil, wire.Refuse("consumer name %.80q: use at most %d of A-Z a-z 0-9 _ -", name, maxConsumerName)
	case c.Group != "" && !nameable(c.Group):
		return nil, wire.Refuse("deliver_group %.80q: use at most %d of A-Z a-z 0-9 _ -", c.Group, maxConsumerName)
	case !slices.Contains([]string{"", "create", "update"}, q.Action):
		return nil, badAPIRequest(fmt.Errorf("action %.80q", q.Action))
	case c.DeliverTo != "" && !delivers:
		return nil, wire.Refuse("deliver_subject %.80q must be an inbox: %s", c.DeliverTo, strings.Join(r.user().Inboxes(), "…, ")+"…")
	}
	out := c.consumerConfig
	secret := rand.Text()
	out.Name = r.name + ConsumerMark + secret + ConsumerMark + cmp.Or(name, secret)
	out.Filters, out.Replicas, out.Memory, out.Metadata = filters, 1, true, nil
	out.DeliverPolicy, out.AckPolicy, out.ReplayPolicy = cmp.Or(c.DeliverPolicy, "all"), cmp.Or(c.AckPolicy, "none"), cmp.Or(c.ReplayPolicy, "instant")
	if out.Inactive = min(c.Inactive, MaxInactive); c.Inactive <= 0 {
		out.Inactive = 5 * time.Second // the server's own default
	}
	if c.Durable != "" { // as long and as safe as the stream, with what was asked for, for the day the user has other Things
		whole, _ := json.Marshal(asked) // of texts
		out.Inactive, out.Replicas, out.Memory, out.Metadata = max(c.Inactive, 0), 0, false, metadata{MetaFilters: string(whole)}
	}
	if out.MaxPending = 0; out.AckPolicy != "none" {
		out.MaxPending = clamp(c.MaxPending, maxPending)
	}
	if c.DeliverTo == "" {
		out.MaxWaiting = clamp(c.MaxWaiting, maxWaiting)
		out.Priority, out.Groups = pullPolicy, groups{newGroup()}
	} else {
		out.MaxWaiting, out.DeliverTo = 0, to
	}
	return &out, nil
}

// clamp is n, or most when n is none or more.
func clamp(n, most int) int {
	if n <= 0 {
		return most
	}
	return min(n, most)
}

// nameable reports whether a program may use a name, or none.
func nameable(name string) bool {
	return len(name) <= maxConsumerName && mapping.Token(name) == name
}

// MetaFilters is what a durable consumer was asked to read, as a list in JSON.
const MetaFilters = "fleetbridge-filters"

// ownConsumer asks about one consumer of the user's, or deletes it.
func (r *reader) ownConsumer(verb string, id consumerID) (map[string]any, error) {
	known, there := r.shelf.find(id)
	if r.own(id.stream) == nil || !there {
		return nil, errNoConsumer
	}
	answer, err := r.ask(verb+id.stream+"."+known.real, nil)
	if wire.APICode(err) == jetstream.JSErrCodeConsumerNotFound || err == nil && verb == "CONSUMER.DELETE." {
		r.shelf.drop(id, known.real)
	}
	if err != nil {
		return nil, err
	}
	return r.undisguise(answer), nil
}

var errNoConsumer = &jetstream.APIError{Code: 404, ErrorCode: jetstream.JSErrCodeConsumerNotFound, Description: "consumer not found"}

func (r *reader) consumerNames(stream string) (map[string]any, error) {
	if r.own(stream) == nil {
		return nil, r.notReadable(stream)
	}
	return page("consumers", r.shelf.names(stream)), nil
}

func (r *reader) consumerList(stream string) (map[string]any, error) {
	if r.own(stream) == nil {
		return nil, r.notReadable(stream)
	}
	infos := []map[string]any{}
	for _, name := range r.shelf.names(stream) {
		switch info, err := r.ownConsumer("CONSUMER.INFO.", consumerID{stream, name}); {
		case err == nil:
			infos = append(infos, info)
		case wire.APICode(err) != jetstream.JSErrCodeConsumerNotFound:
			return nil, err
		}
	}
	return page("consumers", infos), nil
}

// undisguise gives names and deliver subject back as the user wrote them.
func (r *reader) undisguise(info map[string]any) map[string]any {
	show := func(in map[string]any, key string) {
		if text, ok := in[key].(string); ok {
			in[key] = ShownName(text)
		}
	}
	show(info, "name")
	config, ok := info["config"].(map[string]any)
	if !ok {
		return info
	}
	show(config, "name")
	show(config, "durable_name")
	if subject, ok := config["deliver_subject"].(string); ok {
		config["deliver_subject"] = strings.TrimPrefix(subject, access.DeliverSpace(r.subjects, r.name))
	}
	if meta, ok := config["metadata"].(map[string]any); ok {
		delete(meta, MetaFilters)
	}
	delete(info, "priority_groups")
	delete(config, "priority_groups")
	delete(config, "priority_policy")
	return info
}

func badAPIRequest(err error) error {
	return &jetstream.APIError{Code: 400, ErrorCode: jetstream.JSErrCodeBadRequest, Description: "bad request: " + wire.OneLine(err.Error(), wire.MaxErrorText)}
}

// asAPIError is how JetStream would say it.
func asAPIError(err error) *jetstream.APIError {
	if known := (*jetstream.APIError)(nil); errors.As(err, &known) {
		return known
	}
	return &jetstream.APIError{Code: 503, ErrorCode: wire.CodeUnavailable, Description: err.Error()}
}

// decodeObject reads JSON without rounding its numbers.
func decodeObject(data []byte) (map[string]any, error) {
	var out map[string]any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	return out, decoder.Decode(&out)
}

// maxFilters is how many filters a consumer may have, or as many as there are Things that the user may read: JetStream
// compares each with each other, which takes a minute for fifty thousand.
const maxFilters = 256

func tooMany(filters, own []string) bool { return len(filters) > max(maxFilters, len(own)) }

// common is what the filters and the allowed subjects have in common, as filters that don't overlap if
// neither the given nor the allowed ones do. Allowed subjects have no wildcard but a last >. Of too many it returns one more
// than are allowed.
func common(filters, allowed []string) (out []string) {
	for _, f := range filters {
		for _, a := range allowed {
			if both, ok := wire.Intersect(f, a); ok && !slices.Contains(out, both) {
				if out = append(out, both); tooMany(out, allowed) {
					return out
				}
			}
		}
	}
	return out
}
