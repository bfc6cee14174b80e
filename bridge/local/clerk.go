package local

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/mapping"
)

// Clerk answers the JetStream requests of users: what it takes to read one's own Things' part of a
// stream with a stock client, as ordered consumers, key-value buckets and their watches do. It looks at
// every request, because a consumer names in its body what it reads and where that is delivered, and asks
// JetStream with the bridge's rights for what is left of it.
//
// Each user has a goroutine of its own and so one request at a time: who asks a lot waits for himself.
type Clerk struct {
	nc       *nats.Conn
	subjects mapping.Subjects
	log      *slog.Logger
	ctx      context.Context
	cancel   context.CancelFunc
	subs     []*nats.Subscription
	running  sync.WaitGroup
}

// clerkPending is how many requests of a user may wait; those beyond it are refused.
const clerkPending = 256

// ServeUsers answers the users that may read until it is closed.
func ServeUsers(nc *nats.Conn, subjects mapping.Subjects, users []User, log *slog.Logger) (*Clerk, error) {
	if err := checkUsers(users); err != nil {
		return nil, err
	}
	c := &Clerk{nc: nc, subjects: subjects, log: log}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	for _, u := range users {
		if !u.may(AllowRead) {
			continue
		}
		r, in := newReader(c, u), make(chan *nats.Msg, clerkPending)
		sub, err := nc.Subscribe(apiSpace(subjects, u.Name)+">", func(m *nats.Msg) {
			select {
			case in <- m:
			default: // and so the subscription is never too slow for the connection
				r.respond(m, "error", nil, &jetstream.APIError{Code: 429, ErrorCode: codeUnavailable, Description: "too many requests at a time"})
			}
		})
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("requests of user %s: %w", u.Name, err)
		}
		c.subs = append(c.subs, sub)
		c.running.Go(func() { r.run(in) })
	}
	if err := nc.FlushTimeout(apiTimeout); err != nil {
		c.Close()
		return nil, fmt.Errorf("requests of users: %w", err)
	}
	return c, nil
}

// Close takes no more requests and waits for those in work.
func (c *Clerk) Close() {
	c.cancel()
	for _, s := range c.subs {
		_ = s.Unsubscribe() // or the connection is closed
	}
	c.running.Wait()
}

// reader serves one user.
type reader struct {
	*Clerk
	user      User
	space     string
	streams   map[string][]string // to the subjects in it that are the user's
	consumers []consumerID        // oldest first; some may be gone
}

type consumerID struct{ stream, name string }

func newReader(c *Clerk, u User) *reader {
	r := &reader{Clerk: c, user: u, space: apiSpace(c.subjects, u.Name), streams: map[string][]string{}}
	for _, readable := range readables(c.subjects) {
		for _, t := range u.Things {
			r.streams[readable.stream] = append(r.streams[readable.stream], readable.of(mapping.Token(string(t))))
		}
	}
	return r
}

func (r *reader) run(in <-chan *nats.Msg) {
	for {
		select {
		case <-r.ctx.Done():
			return
		case m := <-in:
			if m.Reply != "" {
				r.answer(m)
			}
		}
	}
}

// answer sends one answer, whatever happens.
func (r *reader) answer(m *nats.Msg) {
	verb := strings.TrimPrefix(m.Subject, r.space)
	if stream, ok := strings.CutPrefix(verb, "DIRECT.GET."); ok {
		r.directGet(stream, m)
		return
	}
	kind, body, err := r.carryOut(verb, m.Data)
	r.respond(m, kind, body, err)
}

func (r *reader) respond(m *nats.Msg, kind string, body map[string]any, err error) {
	if m.Reply == "" {
		return
	}
	if body == nil {
		body = map[string]any{}
	}
	if err != nil {
		body = map[string]any{"error": asAPIError(err)}
	}
	body["type"] = "io.nats.jetstream.api.v1." + kind + "_response"
	data, err := json.Marshal(body)
	if err != nil {
		r.log.Error("an answer to a JetStream request can't be spelled", "user", r.user.Name, "error", err)
		return
	}
	_ = m.Respond(data) // lost with the connection, and so is the program that waits for it
}

// carryOut does what a request asks for.
func (r *reader) carryOut(verb string, body []byte) (kind string, answer map[string]any, err error) {
	what, rest, _ := strings.Cut(verb, ".")
	if what == "INFO" {
		return "account_info", accountInfo(), nil
	}
	action, rest, _ := strings.Cut(rest, ".")
	stream, name, _ := strings.Cut(rest, ".")
	switch what + "." + action {
	case "STREAM.NAMES":
		answer, err = r.names(body)
		return "stream_names", answer, err
	case "STREAM.INFO":
		answer, err = r.streamInfo(stream)
		return "stream_info", answer, err
	case "CONSUMER.CREATE":
		answer, err = r.createConsumer(stream, body)
		return "consumer_create", answer, err
	case "CONSUMER.DURABLE":
		return "consumer_create", nil, errDurable
	case "CONSUMER.INFO":
		answer, err = r.ownConsumer("CONSUMER.INFO.", stream, name)
		return "consumer_info", answer, err
	case "CONSUMER.DELETE":
		answer, err = r.ownConsumer("CONSUMER.DELETE.", stream, name)
		return "consumer_delete", answer, err
	}
	return "error", nil, refuse("%s is not for local.users", verb)
}

// ask asks JetStream with the bridge's rights.
func (r *reader) ask(verb string, body any) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(r.ctx, apiTimeout)
	defer cancel()
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	if body == nil {
		data = nil
	}
	m, err := r.nc.RequestWithContext(ctx, "$JS.API."+verb, data)
	if err != nil {
		return nil, fmt.Errorf("JetStream does not answer: %w", err)
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return nil, fmt.Errorf("JetStream's answer: %w", err)
	}
	if answer.Error != nil {
		return nil, answer.Error
	}
	return decodeObject(m.Data)
}

// accountInfo is what clients ask for to see whether there is JetStream.
func accountInfo() map[string]any {
	return map[string]any{
		"memory": 0, "storage": 0, "streams": 0, "consumers": 0,
		"limits": map[string]any{"max_memory": -1, "max_storage": -1, "max_streams": 0, "max_consumers": maxConsumers},
		"api":    map[string]any{"total": 0, "errors": 0},
	}
}

// names tells which stream has a subject, or all.
func (r *reader) names(body []byte) (map[string]any, error) {
	var q struct {
		Subject string `json:"subject"`
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &q); err != nil {
			return nil, badAPIRequest(err)
		}
	}
	names := []string{}
	for _, readable := range readables(r.subjects) {
		if q.Subject == "" || len(common([]string{q.Subject}, r.streams[readable.stream])) > 0 {
			names = append(names, readable.stream)
		}
	}
	return map[string]any{"total": len(names), "offset": 0, "limit": 1024, "streams": names}, nil
}

// streamInfo is what clients look at before they use a stream or bucket. How much there is of others is
// left out.
func (r *reader) streamInfo(stream string) (map[string]any, error) {
	if r.streams[stream] == nil {
		return nil, refuse("stream %s is not for local.users", stream)
	}
	info, err := r.ask("STREAM.INFO."+stream, nil)
	if err != nil {
		return nil, err
	}
	state, _ := info["state"].(map[string]any)
	kept := map[string]any{"messages": 0, "bytes": 0, "consumer_count": 0}
	for _, key := range []string{"first_seq", "first_ts", "last_seq", "last_ts"} { // every message tells as much
		kept[key] = state[key]
	}
	return map[string]any{"config": info["config"], "created": info["created"], "ts": info["ts"], "state": kept}, nil
}

// ownConsumer asks about one consumer of the user's, or deletes it.
func (r *reader) ownConsumer(verb, stream, name string) (map[string]any, error) {
	if r.streams[stream] == nil || !strings.HasPrefix(name, r.user.Name+consumerMark) || strings.ContainsAny(name, ".*> ") {
		return nil, &jetstream.APIError{Code: 404, ErrorCode: jetstream.JSErrCodeConsumerNotFound, Description: "consumer not found"}
	}
	answer, err := r.ask(verb+stream+"."+name, nil)
	if err != nil {
		return nil, err
	}
	return r.undisguise(answer), nil
}

// directGet answers the form of direct get whose body names the subject: the last message on it, or the
// next after a sequence.
func (r *reader) directGet(stream string, m *nats.Msg) {
	var q struct {
		Seq  uint64 `json:"seq,omitempty"`
		Last string `json:"last_by_subj,omitempty"`
		Next string `json:"next_by_subj,omitempty"`
	}
	answer := nats.NewMsg(m.Reply)
	decoder := json.NewDecoder(strings.NewReader(string(m.Data)))
	decoder.DisallowUnknownFields() // such as a batch
	err := decoder.Decode(&q)
	switch {
	case err != nil || (q.Last == "") == (q.Next == ""):
		setStatus(answer, "408", "Bad Request: give last_by_subj, or next_by_subj and seq")
	case !covered(q.Last+q.Next, r.streams[stream]):
		setStatus(answer, "404", "Message Not Found")
	default:
		body, _ := json.Marshal(q)
		ctx, cancel := context.WithTimeout(r.ctx, apiTimeout)
		defer cancel()
		got, err := r.nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream, body)
		if err != nil {
			return
		}
		answer.Header, answer.Data = got.Header, got.Data
	}
	_ = r.nc.PublishMsg(answer)
}

func setStatus(m *nats.Msg, code, text string) {
	m.Header.Set("Status", code)
	m.Header.Set("Description", text)
}
