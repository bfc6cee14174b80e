package console

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"fleetbridge/bridge/local"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/sightings"
	"fleetbridge/internal/explain"
	"fleetbridge/mapping"
)

var storedEndpoints = []endpoint{
	{method: "GET", path: "things/{t}/work", role: viewer, stored: true, about: "The Thing's commands without an answer, the last 20 since the start of the bridge that have one, and the jobs that workers have.",
		sample: `{"open":[{"id":"9f2c…","action":"setSpeed","received":"…","deadline":"…","bytes":20,"payload":"{…}"}],"answered":[{"id":"77ab…","action":"setSpeed","status":"SUCCEEDED","at":"…"}],"leases":[{"job":"fw-update","execution":1732000000000,"worker":"updater"}]}`,
		answer: (*Console).work},
	{method: "GET", path: "things/{t}/queue", role: viewer, stored: true, query: []string{"kind", "seq", "limit"},
		about:  "What waits for the cloud, lane by lane, the oldest first. With kind and seq the one message, whole.",
		sample: `{"lanes":[{"thing":"pump-07","kind":"events","messages":12,"bytes":3400,"oldest":"…"}],"items":[{"kind":"events","seq":771,"stored":"…","subject":"fleets.up.pump-07.events.hot","bytes":90,"payload":"{…}"}],"more":true}`,
		answer: (*Console).queue},
	{method: "GET", path: "things/{t}/stored", role: viewer, stored: true, query: []string{"channel", "before", "seq", "limit"},
		about:  "What came from the cloud and programs can read, the newest first. With seq the one message, whole.",
		sample: `{"items":[{"seq":5512,"stored":"…","subject":"fleets.down.pump-07.commands.9f.request","channel":"command.request","id":"9f","traceparent":"00-…","bytes":88,"payload":"{…}"}],"next":"5400","looked":50,"total":5512}`,
		answer: (*Console).stored},
}

// finder reads what the bridge has stored.
func (c *Console) finder() (*local.Finder, error) {
	nc, subjects, err := c.gateway.NATS()
	if err != nil {
		return nil, err
	}
	return local.NewFinder(nc, subjects)
}

// maxLeases bounds what work says of jobs.
const maxLeases = 50

type workAnswer struct {
	Open     []openCommand     `json:"open"`
	Answered []answeredCommand `json:"answered"`
	Leases   []lease           `json:"leases"`
}

type openCommand struct {
	ID       string    `json:"id"`
	Action   string    `json:"action"`
	Received time.Time `json:"received"`
	Deadline time.Time `json:"deadline"`
	explain.Payload
}

type answeredCommand struct {
	ID     string    `json:"id"`
	Action string    `json:"action,omitempty"`
	Status string    `json:"status,omitempty"`
	At     time.Time `json:"at"`
}

type lease struct {
	Job       string `json:"job"`
	Execution int64  `json:"execution"`
	Worker    string `json:"worker"`
}

func (c *Console) work(q *request) (any, error) {
	t, err := c.asked(q)
	if err != nil {
		return nil, err
	}
	out := workAnswer{[]openCommand{}, []answeredCommand{}, []lease{}}
	for _, e := range t.Commands() {
		out.Open = append(out.Open, openCommand{e.ID, e.Action, e.Received.UTC(), e.Deadline.UTC(), newPayload(e.Payload, false)})
	}
	for _, a := range t.Answered() {
		out.Answered = append(out.Answered, answeredCommand(a))
	}
	leases, err := c.gateway.Leased(q.Context(), t.Name, maxLeases)
	for _, l := range leases {
		out.Leases = append(out.Leases, lease{l.Job, l.Execution, l.Worker})
	}
	return out, err
}

type queueAnswer struct {
	Lanes []local.WaitingLane `json:"lanes"`
	Items []waitingMessage    `json:"items"`
	More  bool                `json:"more,omitempty"`
}

type waitingMessage struct {
	Kind     string    `json:"kind"`
	Sequence uint64    `json:"seq"`
	Stored   time.Time `json:"stored"`
	Subject  string    `json:"subject"`
	explain.Payload
}

// maxWaiting is how many waiting messages are looked at for one of them.
const maxWaiting = 1000

var errEnough = errors.New("enough")

func (c *Console) queue(q *request) (any, error) {
	t, err := c.asked(q)
	if err != nil {
		return nil, err
	}
	kind, err := word(q.query, "kind", kinds()...)
	if err != nil {
		return nil, err
	}
	one, err := q.number("seq", 0, 1<<63)
	if err != nil {
		return nil, err
	}
	if one > 0 && kind == "" {
		return nil, refuse(http.StatusBadRequest, "seq is given without kind")
	}
	limit, err := q.limit()
	if err != nil {
		return nil, err
	}
	nc, subjects, err := c.gateway.NATS()
	if err != nil {
		return nil, err
	}
	waiting, err := local.NewWaiting(nc, subjects)
	if err != nil {
		return nil, err
	}
	out := queueAnswer{Lanes: []local.WaitingLane{}, Items: []waitingMessage{}}
	lanes, err := waiting.Lanes(q.Context(), t.Name, kind)
	if err != nil {
		return nil, err
	}
	out.Lanes = append(out.Lanes, lanes...)
	looked := 0
	err = waiting.Each(q.Context(), t.Name, kind, func(m local.WaitingMessage) error {
		looked++
		switch {
		case looked > maxWaiting, one == 0 && len(out.Items) == limit:
			out.More = true
			return errEnough
		case one > 0 && m.Sequence != one:
			return nil
		}
		out.Items = append(out.Items, waitingMessage{m.Kind, m.Sequence, m.Stored, m.Subject, newPayload(m.Payload, one > 0)})
		if one > 0 {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	if one > 0 && len(out.Items) == 0 {
		return nil, refuse(http.StatusNotFound, "%s %d is not among the first %d that wait; perhaps it has been sent", kind, one, maxWaiting)
	}
	return out, nil
}

func kinds() (out []string) {
	for _, k := range mapping.Kinds {
		out = append(out, k.String())
	}
	return out
}

type storedMessage struct {
	Sequence uint64          `json:"seq"`
	Stored   time.Time       `json:"stored"`
	Subject  string          `json:"subject"`
	Channel  mapping.Channel `json:"channel,omitempty"`
	ID       string          `json:"id,omitempty"`
	Parent   string          `json:"traceparent,omitempty"`
	explain.Payload
}

func newStored(s local.Stored, whole bool) storedMessage {
	out := storedMessage{s.Sequence, s.At, s.Subject, s.Address.Channel, s.Address.ID, s.Trace.Parent, newPayload(s.Payload, whole)}
	out.Cut = out.Cut || s.Size > len(s.Payload)
	out.Bytes = s.Size
	return out
}

func (c *Console) stored(q *request) (any, error) {
	t, err := c.asked(q)
	if err != nil {
		return nil, err
	}
	channel, err := word(q.query, "channel", sightings.Channels...)
	if err != nil {
		return nil, err
	}
	before, one, limit, err := q.page()
	if err != nil {
		return nil, err
	}
	f, err := c.finder()
	if err != nil {
		return nil, err
	}
	out := list[storedMessage]{Items: []storedMessage{}}
	if one > 0 {
		s, err := f.CameOne(q.Context(), t.Name, one)
		if errors.Is(err, local.ErrNoMessage) {
			return nil, refuse(http.StatusNotFound, "%d is not stored for %s any more", one, t.Name)
		}
		if err != nil {
			return nil, err
		}
		out.Items = append(out.Items, newStored(s, true))
		return out, nil
	}
	page, err := f.Came(q.Context(), t.Name, channel, before, limit, maxHead)
	if err != nil {
		return nil, err
	}
	for _, s := range page.Items {
		out.Items = append(out.Items, newStored(s, false))
	}
	turn(&out, page)
	return out, nil
}

// page reads where a page of stored messages begins, or which one is asked for.
func (q query) page() (before, one uint64, limit int, err error) {
	if before, err = q.number("before", 0, 1<<63); err != nil {
		return
	}
	if one, err = q.number("seq", 0, 1<<63); err != nil {
		return
	}
	limit, err = q.limit()
	return
}

// turn tells where the next page begins.
func turn[T, S any](out *list[T], page streams.Page[S]) {
	out.Looked, out.Total = page.Looked, page.Total
	if page.Next > 0 {
		out.Next = strconv.FormatUint(page.Next, 10)
	}
}
