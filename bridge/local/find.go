package local

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/letters"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Finder looks for what a store keeps of one message. It reads by sequence and by subject, makes no consumer and
// changes nothing. It needs a connection and nothing else of a running bridge.
type Finder struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	subjects mapping.Subjects
	letters  *letters.Letters
}

// NewFinder looks into the store of the bridge with these subjects.
func NewFinder(nc *nats.Conn, subjects mapping.Subjects) (*Finder, error) {
	js, err := wire.JetStream(nc)
	if err != nil {
		return nil, err
	}
	return &Finder{nc, js, subjects, letters.On(js, subjects)}, nil
}

// Place is where something was found.
type Place string

const (
	PlaceWaits    Place = "waits"    // for the broker
	PlaceCame     Place = "came"     // from the cloud, and programs can read it
	PlaceDead     Place = "dead"     // it is a dead letter
	PlaceOpen     Place = "open"     // a command without an answer
	PlaceAnswered Place = "answered" // a command that has one
	PlaceLeased   Place = "leased"   // a job's execution to a worker
)

// Found is one stored thing that belongs to a message.
type Found struct {
	Place    Place
	At       time.Time // when it was stored
	Stream   string    // empty: what the bridge of an embedded server remembers
	Sequence uint64
	Address  mapping.Address
	Payload  []byte
	Letter   letters.Letter // of PlaceDead
	Worker   string         // of PlaceLeased
	Action   string         // of PlaceOpen
	Deadline time.Time      // of PlaceOpen
}

// Search is what was found, the oldest first, and what was not looked at.
type Search struct {
	Found []Found
	Left  []string // streams of which only the newest were looked at for what only payloads and headers tell
	// Blind is set when what waits for the broker is in no stream, so that it was not looked at.
	Blind bool
}

// Bounds of a search: messages with one id, messages looked at in a stream, and the time for that.
const (
	maxFound = 100
	maxLook  = 2000
	lookTime = 5 * time.Second
)

// Find looks for an id: of an execution, a job, a dead letter, a message or a question (its client token), or a
// traceparent. What ids in subjects tell is found wherever it is; for the others the newest messages are looked at.
func (f *Finder) Find(ctx context.Context, id string) (Search, error) {
	var out Search
	if n, err := strconv.ParseUint(id, 10, 64); err == nil {
		l, err := f.letters.Get(ctx, n)
		if err == nil {
			out.Found = append(out.Found, f.buried(l))
		} else if !errors.Is(err, letters.ErrNone) {
			return out, err
		}
	}
	for _, look := range []func(context.Context, string, *Search) error{f.executions, f.leases, f.queued, f.down, f.dead} {
		if err := look(ctx, id, &out); err != nil {
			return out, err
		}
	}
	slices.SortStableFunc(out.Found, func(a, b Found) int { return a.At.Compare(b.At) })
	return out, nil
}

// Troubled says why a Thing's messages wait, by its status: empty if its session is well or the status unknown.
func (f *Finder) Troubled(ctx context.Context, t mapping.Thing) string {
	var status bridge.Status
	bucket := f.subjects.Name(wire.BucketStatus)
	stream, err := f.js.Stream(ctx, "KV_"+bucket)
	if err != nil {
		return ""
	}
	m, err := stream.GetLastMsgForSubject(ctx, "$KV."+bucket+"."+mapping.Token(string(t)))
	if err != nil || json.Unmarshal(m.Data, &status) != nil {
		return ""
	}
	if !status.Connected {
		return strings.TrimSuffix("not connected: "+status.LastError, ": ")
	}
	return status.LastError
}

// queued looks at what waits for the broker.
func (f *Finder) queued(ctx context.Context, id string, out *Search) error {
	for _, class := range mapping.Classes {
		name := f.subjects.Name(wire.UpStream(class))
		if _, err := f.js.Stream(ctx, name); errors.Is(err, jetstream.ErrStreamNotFound) {
			there, err := f.ask(ctx, id, out)
			out.Blind = !there
			return err // for all classes
		}
		err := f.look(ctx, name, f.filters(string(mapping.SpaceUp)+".*", id), id, out, func(m *jetstream.RawStreamMsg) { f.add(out, PlaceWaits, m) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *Finder) down(ctx context.Context, id string, out *Search) error {
	return f.look(ctx, f.subjects.Name(wire.StreamDown), f.filters(string(mapping.SpaceDown)+".*", id), id, out, func(m *jetstream.RawStreamMsg) { f.add(out, PlaceCame, m) })
}

func (f *Finder) dead(ctx context.Context, id string, out *Search) error {
	return f.look(ctx, f.subjects.Name(wire.StreamDead), f.filters(wire.SpaceDead+".*.*", id), id, out, func(m *jetstream.RawStreamMsg) {
		l, err := letters.Parse(f.subjects, m.Subject, m.Header)
		l.ID, l.Stored, l.Payload = m.Sequence, m.Time, m.Data
		known := slices.ContainsFunc(out.Found, func(o Found) bool { return o.Place == PlaceDead && o.Sequence == m.Sequence })
		if err == nil && !known {
			out.Found = append(out.Found, f.buried(l))
		}
	})
}

// filters are the subjects that have an id, in a space.
func (f *Finder) filters(space, id string) (out []string) {
	for _, root := range []string{"commands", "jobs"} {
		out = append(out, f.subjects.Prefix()+"."+space+"."+root+"."+mapping.Token(id)+".>")
	}
	return out
}

func (f *Finder) add(out *Search, p Place, m *jetstream.RawStreamMsg) {
	_, address, err := f.subjects.Parse(m.Subject)
	if err != nil {
		address = mapping.Address{Thing: mapping.Thing(wire.ThingOf(strings.TrimPrefix(m.Subject, f.subjects.Prefix()+".up.")))}
	}
	out.Found = append(out.Found, Found{Place: p, At: wire.Received(m.Header, m.Time), Stream: f.streamOf(p, address), Sequence: m.Sequence, Address: address, Payload: m.Data})
}

func (f *Finder) streamOf(p Place, a mapping.Address) string {
	if p == PlaceCame {
		return f.subjects.Name(wire.StreamDown)
	}
	class := mapping.Telemetry
	if a.Channel != "" {
		class = a.Route().Kind.Class()
	}
	return f.subjects.Name(wire.UpStream(class))
}

func (f *Finder) buried(l letters.Letter) Found {
	a := mapping.Address{Thing: mapping.Thing(l.Thing), Channel: mapping.Channel(l.Channel)}
	if _, parsed, err := f.subjects.Parse(l.Subject); err == nil {
		a = parsed
	} else if parsed, err := f.letters.Address(l); l.Direction == mapping.Up && err == nil {
		a = parsed
	}
	return Found{Place: PlaceDead, At: l.Stored, Stream: f.subjects.Name(wire.StreamDead), Sequence: l.ID, Address: a, Payload: l.Payload, Letter: l}
}

// executions looks for records of commands in the bucket of an external server.
func (f *Finder) executions(ctx context.Context, id string, out *Search) error {
	return f.records(ctx, wire.BucketExecutions, "*.*."+mapping.Token(id), func(at Found, key []string, value []byte) { f.execution(out, id, at, key, value) })
}

// execution adds the record of a command that was found somewhere.
func (f *Finder) execution(out *Search, id string, found Found, key []string, value []byte) {
	found.Place, found.Address = PlaceAnswered, address(key[1], mapping.CommandRequest, id)
	if key[0] == "open" {
		var e bridge.Execution
		line, payload, _ := bytes.Cut(value, []byte("\n"))
		if json.Unmarshal(line, &e) != nil {
			return
		}
		found.Place, found.Action, found.Deadline, found.Payload = PlaceOpen, e.Action, e.Deadline, payload
	}
	out.Found = append(out.Found, found)
}

func (f *Finder) leases(ctx context.Context, id string, out *Search) error {
	return f.records(ctx, wire.BucketLeases, "*."+mapping.Token(id), func(at Found, key []string, value []byte) { f.lease(out, id, at, key, value) })
}

// lease adds the record of a lease that was found somewhere.
func (f *Finder) lease(out *Search, id string, found Found, key []string, value []byte) {
	var l bridge.Lease
	if json.Unmarshal(value, &l) == nil && l.Worker != "" {
		found.Place, found.Worker, found.Address = PlaceLeased, l.Worker, address(key[0], mapping.JobsStartNext, id)
		out.Found = append(out.Found, found)
	}
}

func address(token string, c mapping.Channel, id string) mapping.Address {
	thing, _ := mapping.Untoken(token)
	return mapping.Address{Thing: mapping.Thing(thing), Channel: c, ID: id}
}

// records reads the keys of a bucket that match, without those that were deleted. The Found that each gets says where.
func (f *Finder) records(ctx context.Context, bucket, keys string, each func(at Found, key []string, value []byte)) error {
	root := "$KV." + f.subjects.Name(bucket) + "."
	return f.look(ctx, "KV_"+f.subjects.Name(bucket), []string{root + keys}, "", nil, func(m *jetstream.RawStreamMsg) {
		if m.Header.Get(wire.HeaderOperation) == "" {
			each(Found{At: m.Time, Stream: f.subjects.Name(bucket), Sequence: m.Sequence}, strings.Split(strings.TrimPrefix(m.Subject, root), "."), m.Data)
		}
	})
}

// look hands out what a stream has under the subjects. If that is nothing, and an id is given, it hands out those of the
// newest messages that have the id in their payload or headers. A stream that is not there has nothing.
func (f *Finder) look(ctx context.Context, name string, subjects []string, id string, out *Search, each func(*jetstream.RawStreamMsg)) error {
	stream, err := f.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	found := 0
	for _, subject := range subjects {
		for next := uint64(1); found < maxFound; found++ {
			m, err := streams.Get(ctx, f.nc, name, streams.Ask{From: next, Next: subject})
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				break
			}
			if err != nil {
				return err
			}
			next = m.Sequence + 1
			each(m)
		}
	}
	if found > 0 || id == "" {
		return nil
	}
	state := stream.CachedInfo().State
	end, looked := time.Now().Add(lookTime), 0
	for seq := state.LastSeq; seq >= max(state.FirstSeq, 1) && state.Msgs > 0; seq-- {
		if looked++; looked > maxLook || time.Now().After(end) {
			out.Left = append(out.Left, name)
			return nil
		}
		m, err := stream.GetMsg(ctx, seq)
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) && !errors.Is(err, nats.ErrBadHeaderMsg) {
			return err
		}
		if err == nil && has(m, id) {
			each(m)
		}
	}
	return nil
}

// has tells whether a message has the id, as a string in its payload, as its trace or as the id that its sender gave it.
func has(m *jetstream.RawStreamMsg, id string) bool {
	given := m.Header.Get(jetstream.MsgIDHeader)
	return Mentions(m.Data, id) || SameTrace(wire.TraceOf(m.Header).Parent, id) ||
		given != "" && (given == id || given == wire.ShortID(id+" "+wire.HeaderText(m.Subject)))
}

// Mentions tells whether a JSON payload, or the head of one, names an id as its clientToken, or as that of a job or an execution.
func Mentions(payload []byte, id string) bool {
	quoted := []byte(`"` + id + `"`)
	for id != "" {
		before, after, found := bytes.Cut(payload, quoted)
		if !found {
			return false
		}
		before = bytes.TrimRight(bytes.TrimSuffix(bytes.TrimRight(before, " \t\r\n"), []byte(":")), " \t\r\n")
		for _, member := range []string{"clientToken", "jobId", "executionId"} {
			if bytes.HasSuffix(before, []byte(`"`+member+`"`)) {
				return true
			}
		}
		payload = after
	}
	return false
}

// SameTrace tells whether an id, a traceparent or the trace id in one, is of the same trace as a traceparent.
func SameTrace(parent, id string) bool {
	return parent != "" && traceID(parent) != "" && traceID(parent) == cmp.Or(traceID(id), id)
}

// traceID is the second part of a traceparent.
func traceID(parent string) string {
	parts := strings.Split(parent, "-")
	if len(parts) < 4 || len(parts[1]) != 32 {
		return ""
	}
	return parts[1]
}
