package local

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

	"fleetbridge/mapping"
)

const (
	// maxConsumers is how many a user may have on all streams. The oldest goes when there is one more:
	// most that were ever made are gone, and clients make a new one when theirs is.
	maxConsumers = 256
	// maxInactive is how long a consumer may be without anybody who takes from it.
	maxInactive = 5 * time.Minute
	maxPending  = 1000 // unacknowledged messages of a consumer
	maxWaiting  = 512  // questions to a consumer
	// consumerMark is in no user's name, so that a consumer's name tells whose it is.
	consumerMark    = "="
	maxConsumerName = 64
)

// consumerConfig is what JetStream is asked for.
type consumerConfig struct {
	Name          string        `json:"name"`
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
}

// consumerRequest is what a user may ask of a consumer. What is not here is left out; what would be
// dangerous to leave out is refused.
type consumerRequest struct {
	Config struct {
		consumerConfig
		Durable string `json:"durable_name"`
		Filter  string `json:"filter_subject"`
	} `json:"config"`
}

// createConsumer makes a consumer over the user's part of a stream. A consumer is reached by its name
// alone, so it gets one that no other user can know: the user's, a secret, and what the client asked for,
// because some clients recognise theirs by its end.
func (r *reader) createConsumer(stream string, body []byte) (map[string]any, error) {
	if r.streams[stream] == nil {
		return nil, refuse("stream %s is not for local.users", stream)
	}
	var q consumerRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, badAPIRequest(err)
	}
	config, err := r.permitted(stream, &q)
	if err != nil {
		return nil, err
	}
	// A push consumer is asked for in the subject with one token of name; the body has the filters.
	answer, err := r.ask("CONSUMER.CREATE."+stream+"."+config.Name, map[string]any{
		"stream_name": stream, "config": config, "action": "create",
	})
	if err != nil {
		return nil, err
	}
	r.remember(consumerID{stream, config.Name})
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
	filters := common(asked, r.streams[stream])
	switch {
	case len(filters) == 0:
		return nil, refuse("nothing of %s is the user's", strings.Join(asked, ", "))
	case c.Durable != "":
		return nil, errDurable
	case len(c.Name) > maxConsumerName || c.Name != "" && mapping.Token(c.Name) != c.Name:
		return nil, refuse("consumer name %.80q: use at most %d of A-Z a-z 0-9 _ -", c.Name, maxConsumerName)
	case c.DeliverTo != "" && (!strings.HasPrefix(c.DeliverTo, r.user.InboxPrefix()+".") || strings.ContainsAny(c.DeliverTo, "*> ")):
		return nil, refuse("deliver_subject must begin with %s., set the client's inbox prefix", r.user.InboxPrefix())
	}
	out := c.consumerConfig
	out.Name = r.user.Name + consumerMark + rand.Text() + consumerMark + c.Name
	out.Filters, out.Replicas, out.Memory = filters, 1, true
	out.DeliverPolicy, out.AckPolicy, out.ReplayPolicy = cmp.Or(c.DeliverPolicy, "all"), cmp.Or(c.AckPolicy, "none"), cmp.Or(c.ReplayPolicy, "instant")
	if out.Inactive = min(c.Inactive, maxInactive); c.Inactive <= 0 {
		out.Inactive = 5 * time.Second // the server's own default
	}
	if out.MaxPending = 0; out.AckPolicy != "none" {
		out.MaxPending = clamp(c.MaxPending, maxPending)
	}
	if c.DeliverTo == "" {
		out.MaxWaiting = clamp(c.MaxWaiting, maxWaiting)
	} else {
		out.MaxWaiting, out.DeliverTo = 0, deliverSpace(r.subjects, r.user.Name)+c.DeliverTo
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

// remember keeps the number of consumers within bounds.
func (r *reader) remember(c consumerID) {
	r.consumers = append(r.consumers, c)
	if len(r.consumers) <= maxConsumers {
		return
	}
	oldest := r.consumers[0]
	r.consumers = slices.Delete(r.consumers, 0, 1)
	if _, err := r.ask("CONSUMER.DELETE."+oldest.stream+"."+oldest.name, nil); err != nil && apiCode(err) != jetstream.JSErrCodeConsumerNotFound {
		r.log.Debug("a user's oldest consumer was not removed", "user", r.user.Name, "error", err)
	}
}

// undisguise gives the deliver subject back as the user wrote it.
func (r *reader) undisguise(info map[string]any) map[string]any {
	if config, ok := info["config"].(map[string]any); ok {
		if subject, ok := config["deliver_subject"].(string); ok {
			config["deliver_subject"] = strings.TrimPrefix(subject, deliverSpace(r.subjects, r.user.Name))
		}
	}
	return info
}

// refuse is the answer to what a user may not do.
func refuse(format string, args ...any) error {
	return &jetstream.APIError{Code: 403, ErrorCode: codeForbidden, Description: fmt.Sprintf(format, args...)}
}

var errDurable = refuse("durable consumers are not for local.users; use an ordered consumer, or one without a durable name")

func badAPIRequest(err error) error {
	return &jetstream.APIError{Code: 400, ErrorCode: jetstream.JSErrCodeBadRequest, Description: "bad request: " + err.Error()}
}

// codeForbidden is of no meaning to clients, but some insist on one.
const codeForbidden = 10101

// asAPIError is how JetStream would say it.
func asAPIError(err error) *jetstream.APIError {
	if known := (*jetstream.APIError)(nil); errors.As(err, &known) {
		return known
	}
	return &jetstream.APIError{Code: 503, ErrorCode: codeUnavailable, Description: err.Error()}
}

const codeUnavailable = 10008 // as JetStream says it

// decodeObject reads JSON without rounding its numbers.
func decodeObject(data []byte) (map[string]any, error) {
	var out map[string]any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	return out, decoder.Decode(&out)
}

// common is what the filters and the allowed subjects have in common, as filters that don't overlap if
// neither the given nor the allowed ones do. Allowed subjects have no wildcard but a last >.
func common(filters, allowed []string) []string {
	var out []string
	for _, f := range filters {
		for _, a := range allowed {
			if both, ok := intersect(f, a); ok && !slices.Contains(out, both) {
				out = append(out, both)
			}
		}
	}
	return out
}

// covered tells whether a filter asks for nothing but allowed subjects.
func covered(filter string, allowed []string) bool {
	for _, a := range allowed {
		if both, ok := intersect(filter, a); ok && both == filter {
			return true
		}
	}
	return false
}

// intersect is the filter of the subjects that two filters have in common.
func intersect(a, b string) (string, bool) {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	var out []string
	for i := 0; ; i++ {
		switch {
		case i == len(x) && i == len(y):
			return strings.Join(out, "."), true
		case i == len(x) || i == len(y) || x[i] == "" || y[i] == "":
			return "", false
		case x[i] == ">" && i == len(x)-1:
			return strings.Join(append(out, y[i:]...), "."), true
		case y[i] == ">" && i == len(y)-1:
			return strings.Join(append(out, x[i:]...), "."), true
		case x[i] == "*":
			out = append(out, y[i])
		case y[i] == "*" || x[i] == y[i]:
			out = append(out, x[i])
		default:
			return "", false
		}
	}
}
