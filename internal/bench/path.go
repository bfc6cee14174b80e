package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// Bridge is the path through a bridge: programs on NATS here, a cloud there.
type Bridge struct {
	NATS   string // where programs connect
	Prefix string // of subjects
	Cloud  Cloud
	// Answers makes the cloud answer jobs/get itself; a real one does that without help.
	Answers bool
	// Plain is a bridge that stores nothing: programs don't wait for its word.
	Plain bool
	// Delivered, if set, counts messages up that the broker has, for a cloud that can't be attached to.
	Delivered func(ctx context.Context) (int64, error)
}

// Open connects a program and the cloud.
func (b Bridge) Open(ctx context.Context, l Load, got func([]byte), fail func()) (Ends, error) {
	subjects, err := mapping.NewSubjects(b.Prefix)
	if err != nil {
		return nil, err
	}
	e := &bridgeEnds{load: l, path: b, subjects: subjects, got: got, fail: fail, run: nonce()}
	if e.nc, err = nats.Connect(b.NATS, nats.Name("fleetbridge bench"), nats.NoReconnect()); err != nil {
		return nil, fmt.Errorf("connecting a program: %w", err)
	}
	if err := e.open(ctx); err != nil {
		e.Close()
		return nil, err
	}
	if e.counted {
		return countedEnds{e}, nil
	}
	return e, nil
}

// nonce keeps the ids of two runs apart.
func nonce() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

type bridgeEnds struct {
	load     Load
	path     Bridge
	subjects mapping.Subjects
	got      func([]byte)
	fail     func()
	run      string

	nc      *nats.Conn
	cloud   CloudConn // nil: not attached
	inbox   string
	counted bool  // arrivals are not seen
	from    int64 // Delivered at the start
	printed []string
}

// errorKey is in what the store says of a message that it refuses.
var errorKey = []byte(`"error"`)

func (e *bridgeEnds) open(ctx context.Context) error {
	e.inbox = nats.NewInbox()
	for _, a := range e.load.addresses() {
		switch e.load.Kind {
		case Up:
			e.printed = append(e.printed, e.subjects.Print(mapping.SpaceUp, a))
		case Req:
			e.printed = append(e.printed, e.subjects.Print(mapping.SpaceReq, a))
		case Down:
			e.printed = append(e.printed, a.Topic())
		}
	}
	if err := e.openProgram(); err != nil {
		return err
	}
	if e.path.Cloud == nil {
		if e.load.Kind == Up && e.path.Delivered != nil {
			var err error
			e.counted = true
			e.from, err = e.path.Delivered(ctx)
			return err
		}
		if e.load.Kind == Req && !e.path.Answers {
			return nil
		}
		return fmt.Errorf("%s: no cloud to attach to", e.load.Kind)
	}
	filters, took := e.cloudSide()
	var err error
	ready := make(chan struct{}) // took may need the connection
	e.cloud, err = e.path.Cloud.Attach(ctx, filters, func(topic, payload []byte) { <-ready; took(topic, payload) })
	close(ready)
	return err
}

// openProgram subscribes to what a program hears.
func (e *bridgeEnds) openProgram() error {
	var err error
	switch e.load.Kind {
	case Up: // the store's word
		_, err = e.nc.Subscribe(e.inbox, func(m *nats.Msg) {
			if bytes.Contains(m.Data, errorKey) || len(m.Data) == 0 {
				e.fail()
			}
		})
	case Down:
		for _, t := range e.load.Things {
			if _, err = e.nc.Subscribe(e.subjects.Thing(mapping.SpaceDown, t), func(m *nats.Msg) { e.got(m.Data) }); err != nil {
				return err
			}
		}
	case Command:
		for _, t := range e.load.Things {
			if _, err = e.nc.Subscribe(e.subjects.Command(t, ID), func(m *nats.Msg) { _ = m.Respond(response(m.Data)) }); err != nil {
				return err
			}
		}
	case Req:
		_, err = e.nc.Subscribe(e.inbox, func(m *nats.Msg) {
			if m.Header.Get("Nats-Service-Error-Code") != "" || len(m.Data) == 0 {
				e.fail()
				return
			}
			e.got(m.Data)
		})
	}
	if err != nil {
		return err
	}
	return e.nc.Flush()
}

// cloudSide is what the cloud hears, and what it does then.
func (e *bridgeEnds) cloudSide() (filters []string, took func(topic, payload []byte)) {
	each := func(c mapping.Channel, id string) (out []string) {
		for _, t := range e.load.Things {
			out = append(out, mapping.Address{Thing: t, Channel: c, ID: id}.Topic())
		}
		return out
	}
	switch e.load.Kind {
	case Up:
		id := ""
		if e.load.Channel == mapping.Event {
			id = ID
		}
		return each(e.load.Channel, id), func(_, payload []byte) { e.got(payload) }
	case Command:
		return each(mapping.CommandResponse, "+"), func(_, payload []byte) { e.got(payload) }
	case Req:
		if !e.path.Answers {
			return nil, func(_, _ []byte) {}
		}
		return each(mapping.JobsGet, ""), e.answer
	}
	return nil, func(_, _ []byte) {}
}

// answer is the cloud's to jobs/get: there are no jobs.
func (e *bridgeEnds) answer(topic, payload []byte) {
	a, err := mapping.ParseTopic(mapping.Up, string(topic))
	if err != nil || a.Channel != mapping.JobsGet {
		return
	}
	token := gjson.GetBytes(payload, "clientToken").Raw
	if token == "" {
		token = `""`
	}
	a.Channel = mapping.JobsGetAccepted
	_ = e.cloud.Publish(a.Thing, a.Topic(), fmt.Appendf(nil, `{"inProgressJobs":[],"queuedJobs":[],"timestamp":%d,"clientToken":%s}`, time.Now().UnixMilli(), token))
}

func (e *bridgeEnds) Send(thing int, number int64, payload []byte) error {
	t := e.load.Things[thing]
	switch e.load.Kind {
	case Up:
		if e.path.Plain {
			return e.nc.Publish(e.printed[thing], payload)
		}
		return e.nc.PublishRequest(e.printed[thing], e.inbox, payload)
	case Req:
		return e.nc.PublishRequest(e.printed[thing], e.inbox, payload)
	case Command:
		id := fmt.Sprintf("%s-%s-%d", ID, e.run, number)
		return e.cloud.Publish(t, mapping.Address{Thing: t, Channel: mapping.CommandRequest, ID: id}.Topic(), payload)
	}
	return e.cloud.Publish(t, e.printed[thing], payload)
}

func (e *bridgeEnds) Close() {
	if e.cloud != nil {
		e.cloud.Close()
	}
	e.nc.Close()
}

// Count is Counted, for a cloud that can't be attached to.
func (e countedEnds) Count(ctx context.Context) (int64, error) {
	n, err := e.path.Delivered(ctx)
	return n - e.from, err
}

type countedEnds struct{ *bridgeEnds }

// Direct is the path from one MQTT client to another: over one broker, or over two that something
// connects.
type Direct struct{ Near, Far Broker }

// Open connects a client to either broker. Up goes from near to far.
func (d Direct) Open(ctx context.Context, l Load, got func([]byte), _ func()) (Ends, error) {
	if l.Kind.roundTrip() {
		return nil, fmt.Errorf("%s: only a bridge can do that", l.Kind)
	}
	from, to := d.Far, d.Near
	if l.Kind == Up {
		from, to = d.Near, d.Far
	}
	e := &directEnds{load: l}
	for _, a := range l.addresses() {
		e.topics = append(e.topics, a.Topic())
	}
	var err error
	to.ClientID = strings.TrimSpace(to.ClientID + " receiver")
	from.ClientID = strings.TrimSpace(from.ClientID + " sender")
	if e.to, err = to.Attach(ctx, e.topics, func(_, payload []byte) { got(payload) }); err != nil {
		return nil, err
	}
	if e.from, err = from.Attach(ctx, nil, nil); err != nil {
		e.to.Close()
		return nil, err
	}
	return e, nil
}

type directEnds struct {
	load     Load
	topics   []string
	from, to CloudConn
}

func (e *directEnds) Send(thing int, _ int64, payload []byte) error {
	return e.from.Publish(e.load.Things[thing], e.topics[thing], payload)
}

func (e *directEnds) Close() {
	e.from.Close()
	e.to.Close()
}
