package local

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/local/storedir"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// views are FLEETS_DOWN and FLEETS_DEAD with the embedded server. A message is a record in the journal first, and is stored
// when that is synced. Behind it one goroutine writes the records into their streams, in order, and waits for no sync there.
// A checkpoint, now and then, syncs the streams' files, and the journal forgets what they have.
//
// A message in a stream has the number of its record in a header. So the newest one tells how far the stream has come: what
// it lacks after a crash, or when JetStream has started again, is written once more, from the journal.
//
// What a crash leaves:
//
//	store       before the journal's sync     nothing, or the record; nobody was told
//	            after it                      the record, which the next start writes into its stream
//	write       before the stream has it      the same
//	            after it                      the message; a power cut may take it, or others that were not synced either:
//	                                          the next start writes again from the first that is missing
//	checkpoint  before the journal has it     the records, and the messages
//	            after it                      the messages
//
// Locks: mu is taken alone.
type views struct {
	spool *Spool
	nc    *nats.Conn
	log   *slog.Logger
	down  *view
	dead  *view
	kept  *records // of executions
	id    string   // of the journal, in the headers
	files storedir.Files
	// damaged are records that can't be read, of which it was said; of the goroutine that writes.
	damaged map[uint64]bool

	backlog
	wake chan struct{} // of the goroutine that writes
	due  chan struct{} // something was written since the last checkpoint
	much chan struct{} // the next checkpoint should not wait
	stopping
}

// backlog is how far the streams are behind the journal.
type backlog struct {
	mu       sync.Mutex
	queue    []*charge     // records that their streams lack, in order
	bytes    int64         // of them
	queued   uint64        // number of the newest that was put there
	written  uint64        // every record up to it is in its stream
	unsynced int64         // bytes of records that are, since the last checkpoint
	restarts int           // how often a stream was looked at, as it may have less than it had
	moved    chan struct{} // closed when written or bytes change; nil: nobody waits
}

// stopping is how the views end, in two steps.
type stopping struct {
	ended chan struct{} // nothing is taken any more
	takes sync.WaitGroup
	stop  chan struct{} // nor written
	works sync.WaitGroup
}

const (
	checkpointRest = time.Second // between something is written and its checkpoint, at most
	viewPause      = time.Second // between two tries, at most
	viewBatch      = 1000        // messages that are written before the stream is asked
	viewWrite      = 64 << 10    // bytes that are written at once, and a message
	viewQueue      = 4 << 20     // bytes of records that wait to be written; then nothing is taken
)

// headerNumber has the number of the record from which a message in a stream was written, and the journal's id.
const headerNumber = "Fleets-Number"

// openViews brings the streams up to date, and begins to take messages.
func (s *Spool) openViews(ctx context.Context) error {
	v := &views{
		spool: s, kept: s.records[wire.BucketExecutions], nc: s.store.nc, log: s.log, files: storedir.Files{}, damaged: map[uint64]bool{},
		wake: make(chan struct{}, 1), due: make(chan struct{}, 1), much: make(chan struct{}, 1),
		stopping: stopping{ended: make(chan struct{}), stop: make(chan struct{})},
	}
	v.down = v.view(viewDown, wire.StreamDown, string(mapping.SpaceDown), "down")
	v.dead = v.view(viewDead, wire.StreamDead, wire.SpaceDead, "dead letters")
	v.dead.urgent = true // what is dead makes room in its lane
	if err := v.begin(ctx); err != nil {
		return err
	}
	s.views = v
	v.takes.Go(v.down.run)
	v.takes.Go(v.dead.run)
	v.works.Go(v.write)
	v.works.Go(v.checkpoints)
	return nil
}

func (v *views) view(kind byte, stream, space, what string) *view {
	names := v.spool.subjects
	told := func(part string) tries {
		return tries{what: what, log: v.log, most: viewPause, note: func(reason string) { v.spool.store.troubles.note(part, reason) }}
	}
	name := names.Name(stream)
	return &view{of: v, kind: kind, name: name, public: wire.MirroredSubject(names, space), intake: make(chan *charge, publishWindow), tries: told(what), puts: told("messages of " + name)}
}

func (v *views) each() [2]*view { return [...]*view{v.down, v.dead} }

// enqueue is given what the journal has, in the order of its numbers.
func (v *views) enqueue(group []*charge) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range group {
		v.queue = append(v.queue, c)
		v.bytes += int64(len(c.body))
	}
	v.queued = group[len(group)-1].number
	flow.Signal(v.wake)
}

// room waits until not too much waits to be written. It returns false when the views end first.
func (v *views) room() bool {
	return v.until(context.Background(), v.ended, func() bool { return v.bytes < viewQueue && len(v.queue) < 4*viewBatch }) == nil
}

// caughtUp returns when the streams have all that was stored before the call.
func (v *views) caughtUp(ctx context.Context) error {
	v.mu.Lock()
	queued := v.queued
	v.mu.Unlock()
	return v.until(ctx, v.stop, func() bool { return v.written >= queued })
}

// until waits for something that is said of what mu guards. It returns an error when ctx ends first, or when over is closed.
func (v *views) until(ctx context.Context, over <-chan struct{}, is func() bool) error {
	for {
		v.mu.Lock()
		if is() {
			v.mu.Unlock()
			return nil
		}
		if v.moved == nil {
			v.moved = make(chan struct{})
		}
		moved := v.moved
		v.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		case <-over:
			return journal.ErrClosed
		}
	}
}

// write writes into the streams what waits, until the views stop.
func (v *views) write() {
	for {
		batch := v.take()
		if len(batch) == 0 {
			select {
			case <-v.wake:
				continue
			case <-v.stop:
				return
			}
		}
		if !v.put(batch) {
			return
		}
		v.wrote(batch)
	}
}

// take returns what waits longest, without taking it out.
func (v *views) take() []*charge {
	v.mu.Lock()
	defer v.mu.Unlock()
	n, bytes := 0, 0
	for n < min(len(v.queue), viewBatch) && bytes < streams.GroupBytes {
		bytes += len(v.queue[n].body)
		n++
	}
	return v.queue[:n:n]
}

// wrote takes out what the streams have.
func (v *views) wrote(batch []*charge) {
	for _, c := range batch {
		if c.stored != nil {
			c.stored()
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.written = batch[len(batch)-1].number
	bytes := int64(0)
	for i, c := range batch {
		bytes += int64(len(c.body))
		v.queue[i] = nil
	}
	if v.queue = v.queue[len(batch):]; len(v.queue) == 0 {
		v.queue = nil
	}
	v.bytes -= bytes
	v.unsynced += bytes
	if v.moved != nil {
		close(v.moved)
		v.moved = nil
	}
	flow.Signal(v.due)
	flow.Signal(v.spool.store.troubles.moved)
	if v.unsynced >= v.spool.journal.LargestGroup() {
		flow.Signal(v.much)
	}
}

// put tries until the streams have a batch. It returns false when the views stop first.
func (v *views) put(batch []*charge) bool {
	for doubt := false; ; doubt = true {
		var failed *view
		var err error
		for _, s := range v.each() {
			if doubt {
				err = v.lookAgain(s, batch[0].number)
			}
			if err == nil {
				err = s.put(context.Background(), batch, doubt)
			}
			if err != nil {
				failed = s
				break
			}
			s.puts.succeeded()
		}
		if failed == nil {
			return true
		}
		if !failed.puts.pause(v.stop, err) {
			return false
		}
	}
}

// errGap says that a stream has less than it was sent.
var errGap = errors.New("the stream has not stored all")

// put writes the stream's part of a batch, and waits until the stream has it. single: it waits for each message, so that one
// that is refused for good costs itself alone.
func (s *view) put(ctx context.Context, batch []*charge, single bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, ackTimeout, errAckTimeout)
	defer cancel()
	s.out = s.out[:0]
	var last *charge
	n := uint64(0)
	for _, c := range batch {
		if c.view != s || c.number <= s.newest {
			continue
		}
		if last != nil {
			if err := s.publish(last); err != nil {
				return err
			}
		}
		last = c
		n++
		if single {
			if err := s.ask(ctx, last, 1); err != nil {
				return err
			}
			last, n = nil, 0
		}
	}
	if last == nil {
		return nil
	}
	return s.ask(ctx, last, n)
}

// publish sends a message to the stream, with others or when ask is called.
func (s *view) publish(c *charge) error {
	size := 0
	s.out, s.head, size = appendHPUB(s.out, s.head, c.body, headerNumber, s.numbered(c))
	if int64(size) > s.of.nc.MaxPayload() { // the server would end the connection
		return nats.ErrMaxPayload
	}
	if len(s.out) < viewWrite {
		return nil
	}
	return s.flush()
}

// flush writes what publish has left.
func (s *view) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	err := wire.WriteCommands(s.of.nc, s.out)
	if s.out = s.out[:0]; cap(s.out) > 2*viewWrite {
		s.out, s.head = nil, nil
	}
	return err
}

// numbered is the header by which a message is known again.
func (s *view) numbered(c *charge) string { return s.of.id + "." + strconv.FormatUint(c.number, 10) }

// ask is publish for the last of n messages; it returns when the stream has all of them.
func (s *view) ask(ctx context.Context, c *charge, n uint64) error {
	if err := s.flush(); err != nil {
		return err
	}
	_, m, err := decodeView(c.body)
	if err != nil {
		return err
	}
	m.Header[headerNumber] = []string{s.numbered(c)}
	answer, err := s.of.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errAckTimeout) {
			return cause
		}
		return err
	}
	ack, err := streams.PubAck(answer)
	if rejection, refused := errors.AsType[*bridge.Rejection](err); refused && n == 1 {
		s.of.log.Error("a stream refuses a message for good; programs will not see it", "stream", s.name, "subject", m.Subject, "bytes", len(m.Data), "error", rejection)
		s.newest = c.number
		return nil
	}
	if err != nil {
		return err
	}
	if ack.Sequence < s.last+n {
		return errGap
	}
	s.newest, s.last = c.number, ack.Sequence
	return nil
}

// checkpoints makes one a while after something was written.
func (v *views) checkpoints() {
	for failing := false; ; {
		select {
		case <-v.stop:
			return
		case <-v.due:
		}
		select {
		case <-v.stop:
			return
		case <-v.much:
		case <-time.After(v.spool.cfg.checkpoint()):
		}
		err := v.checkpoint()
		switch {
		case errors.Is(err, fs.ErrNotExist): // somebody has removed a stream, and Store.Check says so
		case err != nil && !failing:
			v.log.Error("what the streams hold can't be synced, it is tried again; it stays in the journal until then", "error", err)
		case err == nil && failing:
			v.log.Info("what the streams hold is synced again")
		}
		if failing = err != nil; failing {
			flow.Signal(v.due)
		}
	}
}

// checkpoint syncs what was written, and has the journal forget it.
func (v *views) checkpoint() error {
	v.mu.Lock()
	written, unsynced, restarts := v.written, v.unsynced, v.restarts
	v.mu.Unlock()
	for _, s := range v.each() {
		if err := v.files.Sync(filepath.Join(v.spool.cfg.Dir, "jetstream", "$G", "streams", s.name, "msgs")); err != nil {
			return err
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if restarts == v.restarts { // else a stream may have lost something meanwhile
		v.spool.journal.Checkpoint(written)
		v.unsynced -= unsynced
	}
	return nil
}

// close takes nothing more, and returns when all is written, or when that is not to be waited for.
func (v *views) close() {
	close(v.ended)
	v.takes.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), viewCloseTime)
	defer cancel()
	written := v.caughtUp(ctx) == nil
	close(v.stop)
	v.works.Wait()
	if !written {
		v.log.Info("some of what is stored was not written into its stream; the next start does it")
	}
	if err := v.checkpoint(); err != nil {
		v.log.Debug("no checkpoint at the end", "error", err)
	}
}

// viewCloseTime is how long a stop waits for the streams.
const viewCloseTime = time.Second
