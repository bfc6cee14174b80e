package clerk

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"fleetbridge/bridge/local/wire"

	"github.com/nats-io/nats.go"
)

// Pulls of users. A pull may ask for heartbeats while nothing comes, as often as every nanosecond. JetStream sends
// them to one program in the same line in which it answers everybody, the bridge too. So users' consumers serve a priority
// group alone, whose name only the bridge knows: a pull that does not come by the clerk, as one in an
// acknowledgement ("+NXT"), can name it no more than ask for heartbeats without it.

// leastHeartbeat is the shortest pause between heartbeats; it is JetStream's own for push consumers.
const leastHeartbeat = 100 * time.Millisecond

// longestPullReply is longer than any client's inbox. JetStream keeps the reply subject of each pull that waits, and a user may
// have a hundred thousand of those.
const longestPullReply = 256

// priority is a consumer's priority policy, and groups are its priority groups; what programs ask for is left out.
type (
	priority string
	groups   []string
)

// UnmarshalJSON implements json.Unmarshaler.
func (*priority) UnmarshalJSON([]byte) error { return nil }

// UnmarshalJSON implements json.Unmarshaler.
func (*groups) UnmarshalJSON([]byte) error { return nil }

// pullPolicy serves pulls as they come, unless they ask for something else.
const pullPolicy priority = "overflow"

// newGroup makes the name of a priority group; it may have 16 characters.
func newGroup() string { return rand.Text()[:16] }

// kept is what the clerk remembers of a consumer.
func (c *consumerConfig) kept() keptConsumer {
	k := keptConsumer{real: c.Name, durable: c.Durable != ""}
	if len(c.Groups) > 0 {
		k.group = c.Groups[0]
	}
	return k
}

// pullRequest is what a user may ask of a pull. What is not here is left out.
type pullRequest struct {
	Expires   time.Duration `json:"expires,omitempty"`
	Batch     int           `json:"batch,omitempty"`
	MaxBytes  int           `json:"max_bytes,omitempty"`
	NoWait    bool          `json:"no_wait,omitempty"`
	Heartbeat time.Duration `json:"idle_heartbeat,omitempty"`
}

// grouped is such a request with the group that the consumer serves.
type grouped struct {
	pullRequest
	Group string `json:"group,omitempty"`
}

// pull has JetStream answer a pull of the user's. It reports whether the message was one.
func (r *reader) pull(m *nats.Msg) bool {
	rest, ok := strings.CutPrefix(m.Subject, r.space+"CONSUMER.MSG.NEXT.")
	if !ok {
		return false
	}
	reply, ok := r.way(m.Reply)
	if !ok {
		return true
	}
	stream, name, _ := strings.Cut(rest, ".")
	known, there := r.shelf.find(consumerID{stream, name})
	if !there { // as the server says it
		_ = r.answers.Send(wire.StatusMessage(reply, "503", "No Responders: there is no such consumer"))
		return true
	}
	body, wrong := m.Data, ""
	if len(m.Reply) > longestPullReply {
		wrong = fmt.Sprintf("the reply subject has %d bytes, a pull's may have %d", len(m.Reply), longestPullReply)
	} else if bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) { // else a number, which asks for no more
		body, wrong = known.permittedPull(body)
	}
	if wrong != "" {
		_ = r.answers.Send(wire.StatusMessage(reply, "400", "Bad Request - "+wrong))
		return true
	}
	_ = r.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+stream+"."+known.real, reply, body)
	return true
}

// permittedPull is what remains of a pull, or what is wrong with it.
func (k keptConsumer) permittedPull(body []byte) (permitted []byte, wrong string) {
	q := grouped{Group: k.group}
	if err := json.Unmarshal(body, &q.pullRequest); err != nil {
		return nil, wire.OneLine(err.Error(), wire.MaxErrorText)
	}
	if q.Heartbeat > 0 && q.Heartbeat < leastHeartbeat {
		return nil, "idle_heartbeat must be at least " + leastHeartbeat.String()
	}
	permitted, _ = json.Marshal(q) // numbers and a name
	return permitted, ""
}
