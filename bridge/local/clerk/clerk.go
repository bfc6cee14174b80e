package clerk

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/wire"
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
	answers  *wire.Answers
	subjects mapping.Subjects
	log      *slog.Logger
	gone     *nats.Subscription // to JetStream's word that a consumer is gone
	retries  *bridge.Retries
	life     context.Context // ends with Close, and with it the readers'
	end      context.CancelFunc

	unsettled []access.User // who is not answered since a change; of who calls SetUsers, and of settling
	settling  sync.WaitGroup
	unsettle  context.CancelFunc // ends it

	mu      sync.Mutex         // of readers, which who calls SetUsers alone changes
	readers map[string]*reader // by user
}

const (
	// clerkPending is how many requests of a user may wait; those beyond it are refused.
	clerkPending = 256
	// maxAPIRequest is how many bytes a request may have, with its subjects and headers.
	maxAPIRequest = 64 << 10
)

// Serve answers the users until it is closed. It takes up the consumers that they had, and removes those of users
// that are gone. What it has to try again it does with retries.
func Serve(nc *nats.Conn, subjects mapping.Subjects, users []access.User, retries *bridge.Retries, log *slog.Logger) (*Clerk, error) {
	c := &Clerk{nc: nc, answers: wire.NewAnswers(nc, log), subjects: subjects, retries: retries, log: log, readers: map[string]*reader{}}
	c.life, c.end = context.WithCancel(context.Background())
	c.unsettle = func() {} // nothing is
	var err error
	if c.gone, err = nc.Subscribe("$JS.EVENT.ADVISORY.CONSUMER.DELETED.>", c.deleted); err != nil {
		return nil, fmt.Errorf("requests of users: %w", err)
	}
	leave, err := c.SetUsers(users, nil)
	if err != nil {
		c.Close()
		return nil, err
	}
	leave()
	return c, nil
}

// SetUsers answers other users from now on, as Server.SetUsers lets them in; things are those that are configured now.
// leave ends those of users that are gone or have other rights; it is called when they can't log in as they were
// any more. With an error nothing has changed. It and Close are called by one goroutine at a time.
func (c *Clerk) SetUsers(users []access.User, things []mapping.Thing) (leave func(), err error) {
	if err := access.CheckUsers(users); err != nil {
		return nil, err
	}
	c.unsettle()
	c.settling.Wait()
	var added, changed, wider []access.User
	stays, there := map[string]bool{}, make(map[mapping.Thing]bool, len(things))
	for _, t := range things {
		there[t] = true
	}
	for _, u := range users {
		r := c.readers[u.Name]
		switch {
		case r == nil:
			added = append(added, u)
		case r.now.Load().reads(u, there):
			stays[u.Name] = true
			wider = append(wider, u)
		default:
			changed = append(changed, u)
		}
	}
	var gone []*reader
	for name, r := range c.readers {
		if !stays[name] {
			gone = append(gone, r)
		}
	}
	if err := c.open(added); err != nil {
		c.settle(c.unsettled)
		return nil, err
	}
	for _, u := range wider {
		was := c.readers[u.Name].now.Load()
		c.readers[u.Name].now.Store(c.rights(access.Membership{User: u, Given: slices.Concat(was.Given, was.Lacks(u))}))
	}
	return func() {
		for _, r := range gone {
			c.put(r.name, nil)
			r.close()
			r.forget(slices.ContainsFunc(changed, func(u access.User) bool { return u.Name == r.name }))
		}
		c.settle(changed)
	}, nil
}

// settle answers users whose rights have changed, and takes stock. What fails, as without NATS, is tried again until the
// users change again, or the clerk is closed.
func (c *Clerk) settle(changed []access.User) {
	ctx, cancel := context.WithCancel(c.life)
	c.unsettle, c.unsettled = cancel, changed
	try := func() error {
		if !c.nc.IsConnected() {
			return nats.ErrDisconnected
		}
		if err := c.open(c.unsettled); err != nil {
			return err
		}
		c.unsettled = nil
		return c.takeStock(ctx)
	}
	if try() == nil {
		cancel()
		return
	}
	c.settling.Go(func() { _ = c.retries.Until(ctx, "", "to answer users after a change", try) })
}

// put sets who answers a user; nil: nobody.
func (c *Clerk) put(user string, r *reader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r == nil {
		delete(c.readers, user)
	} else {
		c.readers[user] = r
	}
}

// readerOf is who answers a user, or nil.
func (c *Clerk) readerOf(user string) *reader {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.readers[user]
}

// open makes readers, all or none.
func (c *Clerk) open(users []access.User) error {
	for i, u := range users {
		r, err := c.reader(u)
		if err == nil {
			c.put(u.Name, r)
			continue
		}
		for _, made := range users[:i] {
			c.readers[made.Name].close()
			c.put(made.Name, nil)
		}
		return fmt.Errorf("requests of user %s: %w", u.Name, err)
	}
	if len(users) == 0 {
		return nil
	}
	if err := c.nc.FlushTimeout(wire.APITimeout); err != nil {
		for _, u := range users {
			c.readers[u.Name].close()
			c.put(u.Name, nil)
		}
		return fmt.Errorf("requests of users: %w", err)
	}
	return nil
}

// Close takes no more requests and waits for those in work.
func (c *Clerk) Close() {
	if c.gone != nil {
		_ = c.gone.Unsubscribe() // or the connection is closed
	}
	c.end()
	c.settling.Wait()
	for _, r := range c.readers {
		r.close()
	}
}

// reader serves one user.
type reader struct {
	*Clerk
	name, space    string
	now            atomic.Pointer[rights]
	shelf          shelf
	refusals       refusals
	ctx            context.Context
	cancel         context.CancelFunc
	asks, requests *nats.Subscription
	running        sync.WaitGroup
}

// rights are what the user may read and ask.
type rights struct {
	access.Membership
	streams map[string][]string // by stream: the subjects in it that are the user's
	asks    map[string][]string // by the Thing's token: what may be asked about it
}

func (r *reader) user() access.User          { return r.now.Load().User }
func (r *reader) own(stream string) []string { return r.now.Load().streams[stream] }

// reads reports whether a reader may go on as it is, but for other Things: the user may read as it could before, or now.
func (s *rights) reads(u access.User, things map[mapping.Thing]bool) bool {
	if s.User.May(access.AllowRead) && !u.May(access.AllowRead) {
		return false
	}
	u.Password, u.NKey, u.Allow, u.Bus = s.User.Password, s.User.NKey, s.User.Allow, s.User.Bus
	return s.Fits(u, things)
}

func (c *Clerk) rights(m access.Membership) *rights {
	u := m.User
	out := &rights{Membership: m, streams: map[string][]string{}, asks: map[string][]string{}}
	for _, subject := range u.Services(c.subjects) {
		if tail, ok := strings.CutPrefix(subject, c.subjects.Prefix()+".req."); ok {
			token, _, _ := strings.Cut(tail, ".")
			out.asks[token] = append(out.asks[token], subject)
		}
	}
	if !u.May(access.AllowRead) {
		return out
	}
	for _, readable := range access.Readables(c.subjects) {
		for _, t := range u.Things {
			out.streams[readable.Stream] = append(out.streams[readable.Stream], readable.Of(mapping.Token(string(t))))
		}
	}
	return out
}

func newReader(c *Clerk, u access.User) *reader {
	r := &reader{Clerk: c, name: u.Name, space: access.APISpace(c.subjects, u.Name)}
	r.ctx, r.cancel = context.WithCancel(c.life)
	r.now.Store(c.rights(access.Membership{User: u, Given: u.Things}))
	return r
}

// reader begins to take a user's requests.
func (c *Clerk) reader(u access.User) (*reader, error) {
	r, in := newReader(c, u), make(chan *nats.Msg, clerkPending)
	asks, err := c.nc.Subscribe(access.AskedSpace(c.subjects, u.Name)+">", r.asked)
	if err != nil {
		return nil, err
	}
	r.asks = asks
	r.requests, err = c.nc.Subscribe(r.space+">", func(m *nats.Msg) {
		if m.Size() > maxAPIRequest {
			r.respond(m, "error", nil, wire.Refuse("the request has %d bytes, and may have %d", m.Size(), maxAPIRequest))
			return
		}
		if r.pull(m) {
			return
		}
		select {
		case in <- m:
		default: // and so the subscription is never too slow for the connection
			r.respond(m, "error", nil, &jetstream.APIError{Code: 429, ErrorCode: wire.CodeUnavailable, Description: "too many requests at a time"})
		}
	})
	if err != nil {
		_ = asks.Unsubscribe()
		return nil, err
	}
	r.running.Go(func() { r.run(in) })
	return r, nil
}

// Drain takes no more requests to the cloud: when nobody answers them, who asks shall hear so.
func (c *Clerk) Drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.readers {
		_ = r.asks.Unsubscribe() // or the connection is closed
	}
}

// close takes no more requests and waits for the one in work.
func (r *reader) close() {
	r.cancel()
	_ = r.asks.Unsubscribe() // or the connection is closed
	_ = r.requests.Unsubscribe()
	r.running.Wait()
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

// way is where an answer to the user goes. A reply subject that is none of the user's inboxes is nobody's; one that is so long
// that a line with it and more would be too long for the server, which ends a connection for that, gets no answer.
func (r *reader) way(reply string) (string, bool) {
	if len(reply) > wire.LongestSubject {
		return "", false
	}
	if strings.HasPrefix(reply, wire.Crossing) { // the server knows whose it is
		return reply, true
	}
	for _, inbox := range r.user().Inboxes() {
		if strings.HasPrefix(reply, inbox) && len(reply) > len(inbox) && !strings.ContainsAny(reply, "*> \t\r\n") {
			return access.DeliverSpace(r.subjects, r.name) + reply, true
		}
	}
	return "", false
}

// answer sends one answer, whatever happens.
func (r *reader) answer(m *nats.Msg) {
	verb := strings.TrimPrefix(m.Subject, r.space)
	if rest, ok := strings.CutPrefix(verb, "DIRECT.GET."); ok {
		r.directGet(rest, m)
		return
	}
	kind, body, err := r.carryOut(verb, m.Data)
	r.respond(m, kind, body, err)
}

func (r *reader) respond(m *nats.Msg, kind string, body map[string]any, err error) {
	reply, ok := r.way(m.Reply)
	if !ok {
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
		r.log.Error("an answer to a JetStream request can't be spelled", "user", r.name, "error", err)
		return
	}
	if len(data) > r.answers.Room() {
		data = fmt.Appendf(nil, `{"type":"io.nats.jetstream.api.v1.%s_response","error":{"code":500,"err_code":%d,"description":"the answer has %d bytes, NATS takes %d"}}`,
			kind, wire.CodeForbidden, len(data), r.answers.Room())
	}
	_ = r.answers.Send(&nats.Msg{Subject: reply, Data: data})
}

// carryOut does what a request asks for.
func (r *reader) carryOut(verb string, body []byte) (kind string, answer map[string]any, err error) {
	what, rest, _ := strings.Cut(verb, ".")
	if what == "INFO" {
		return "account_info", accountInfo(), nil
	}
	action, rest, _ := strings.Cut(rest, ".")
	stream, name, _ := strings.Cut(rest, ".")
	kind = strings.ToLower(what + "_" + action)
	switch what + "." + action {
	case "STREAM.NAMES":
		answer, err = r.names(body)
	case "STREAM.LIST":
		answer, err = r.list(body)
	case "STREAM.INFO":
		answer, err = r.streamInfo(stream)
	case "STREAM.MSG": // GET
		kind = "stream_msg_get"
		if verb, asked, ok := strings.Cut(rest, "."); ok && verb == "GET" {
			answer, err = r.message(asked, body)
		} else {
			err = r.refuse("STREAM.MSG." + rest)
		}
	case "CONSUMER.CREATE":
		answer, err = r.createConsumer(stream, body)
	case "CONSUMER.DURABLE": // CREATE
		kind = "consumer_create"
		stream, _, _ = strings.Cut(name, ".")
		answer, err = r.createConsumer(stream, body)
	case "CONSUMER.INFO", "CONSUMER.DELETE":
		answer, err = r.ownConsumer(what+"."+action+".", consumerID{stream, name})
	case "CONSUMER.NAMES":
		answer, err = r.consumerNames(stream)
	case "CONSUMER.LIST":
		answer, err = r.consumerList(stream)
	default:
		err = r.refuse(what + "." + action)
	}
	return kind, answer, err
}

// refuse says that a kind of request is not for users.
func (r *reader) refuse(verb string) error {
	r.refusals.note(r.log, r.name, "$JS.API."+verb)
	return wire.Refuse("user %s may not ask for %s: users of local.users read %s and the buckets of their Things, and have no streams or buckets of their own",
		r.name, verb, r.subjects.Name(wire.StreamDown))
}

// ask asks JetStream with the bridge's rights.
func (r *reader) ask(verb string, body any) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(r.ctx, wire.APITimeout)
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
		"limits": map[string]any{"max_memory": -1, "max_storage": -1, "max_streams": 0, "max_consumers": MaxConsumers + MaxDurables,
			"max_ack_pending": maxPending, "memory_max_stream_bytes": -1, "storage_max_stream_bytes": -1, "max_bytes_required": false},
		"api": map[string]any{"total": 0, "errors": 0},
	}
}
