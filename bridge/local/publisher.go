package local

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/ownership"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
)

// publisher stores messages in one stream, in order, and tries again until they are stored.
//
// It commits in groups: while one group is being synced to the disk the next one gathers, so a sync is
// paid once for as many messages as came meanwhile, and one message that comes alone waits for nobody.
// A group is stored whole or not at all (an atomic batch), and it is tried until it is stored before the
// next one starts: that keeps the order through every failure. Its first message carries an id, so a group
// that was stored although its PubAck was lost is refused as a duplicate, which is as good, before anything else is looked at. The others
// have none: the server keeps every id in memory for minutes. So a group of which a PubAck was lost is tried as a whole
// until an answer says what became of it, and may go out again before a slow server has stored it.
type publisher struct {
	nc     *nats.Conn
	atomic bool   // the stream takes batches; else every message is a group of its own
	nonce  string // ids are {nonce}-{number}
	queue  chan *parcel
	status chan nats.Status
	back   chan struct{} // the connection came back
	ended  chan struct{}
	work   sync.WaitGroup
	fence  *ownership.Fence // nil: nobody else writes

	tries tries // of run's goroutine; its note is set before the first send
	groups
	end
}

// groups is where a publisher is; of run's goroutine.
type groups struct {
	number  uint64 // of the last group
	batches uint64 // tries so far: each has a batch id of its own
	wire    []*nats.Msg
	took    time.Duration // from the first try of the last group until it was stored
	unsure  bool          // of this group a try was not answered, so it may be stored
}

// end is how a publisher ends.
type end struct {
	life    context.Context // ends with close
	mu      sync.Mutex
	die     context.CancelFunc // ends life
	abandon context.CancelFunc // gives up the try under way
	closed  bool
}

// parcel is one message on its way to the stream.
type parcel struct {
	msg  *nats.Msg
	done func(error)
}

const (
	publishWindow = 1024             // parcels that wait for the next group
	ackTimeout    = 10 * time.Second // a slow disk syncs a group in that time
	backoffMin    = 50 * time.Millisecond
	backoffMax    = 5 * time.Second
)

var errAckTimeout = errors.New("no PubAck in time")

func newPublisher(nc *nats.Conn, what string, atomic bool, f *ownership.Fence, log *slog.Logger) *publisher {
	p := &publisher{
		nc: nc, atomic: atomic, fence: f, nonce: nuid.Next(),
		queue: make(chan *parcel, publishWindow), back: make(chan struct{}, 1), ended: make(chan struct{}),
		status: nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.DISCONNECTED),
	}
	p.tries = tries{what: what, log: log, note: func(string) {}, most: backoffMax, back: p.back}
	p.life, p.die = context.WithCancel(context.Background())
	p.work.Go(p.watch)
	p.work.Go(p.run)
	return p
}

// send is bridge.Sink.Send for a message whose subject the stream captures. The message belongs to the
// publisher from now on.
func (p *publisher) send(ctx context.Context, m *nats.Msg, done func(error)) error {
	if m.Header == nil {
		m.Header = nats.Header{}
	}
	if n := wire.Size(m) + groupRoom; int64(n) > p.nc.MaxPayload() {
		done(bridge.Rejectf(bridge.CodeTooLarge, "the message has %d bytes with its headers, NATS takes %d", n, p.nc.MaxPayload()))
		return nil
	}
	select {
	case p.queue <- &parcel{m, done}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.ended:
		return nats.ErrConnectionClosed
	}
}

// groupRoom is what the publisher's own headers need, at most.
const groupRoom = 256

// run stores one group after the other.
func (p *publisher) run() {
	var group []*parcel
	for {
		select {
		case <-p.ended:
			return
		case x := <-p.queue:
			group = p.gather(append(group[:0], x))
		}
		if !p.store(group) {
			return
		}
		clear(group)
	}
}

// gather adds what waits already.
func (p *publisher) gather(group []*parcel) []*parcel {
	if !p.atomic {
		return group
	}
	for bytes := len(group[0].msg.Data); len(group) < streams.GroupMax && bytes < streams.GroupBytes; {
		select {
		case x := <-p.queue:
			group = append(group, x)
			bytes += len(x.msg.Data)
		default:
			return group
		}
	}
	return group
}

// store tries until the group is stored and tells everybody. It returns false when the publisher was
// closed meanwhile.
func (p *publisher) store(group []*parcel) bool {
	p.number++
	group[0].msg.Header[jetstream.MsgIDHeader] = []string{p.nonce + "-" + strconv.FormatUint(p.number, 36)}
	p.unsure = false
	for began := time.Now(); ; {
		again, err := p.fence.Again(p.life, p.try(group))
		rejection := (*bridge.Rejection)(nil)
		switch {
		case p.gone(), errors.Is(err, ownership.ErrFenced): // nothing of this epoch is stored any more
			return false
		case again:
		case len(group) > 1 && wire.APICode(err) == wire.CodeBatchBroken: // the stream refused one of them, or has a new leader
			if p.unsure { // to store them one by one might be to store them twice
				p.unsure = false
				continue
			}
			return p.storeEach(group) // finds out which
		case err == nil:
			p.took = time.Since(began)
			p.tries.succeeded()
			for _, x := range group {
				x.done(nil)
			}
			return true
		case !errors.As(err, &rejection):
			if !p.tries.pause(p.ended, err) {
				return false
			}
		case len(group) > 1:
			return p.storeEach(group)
		default:
			group[0].done(rejection)
			return true
		}
	}
}

// storeEach stores a group one by one.
func (p *publisher) storeEach(group []*parcel) bool {
	for i := range group {
		if !p.store(group[i : i+1]) {
			return false
		}
	}
	return true
}

// try puts a group on the wire until it is answered: a leader that stands still answers nothing, and some seconds later
// another one is elected.
func (p *publisher) try(group []*parcel) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), ackTimeout, errAckTimeout)
	defer cancel()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nats.ErrConnectionClosed
	}
	p.abandon = cancel
	p.mu.Unlock()
	if !p.nc.IsConnected() {
		return nats.ErrDisconnected
	}
	err := streams.AgainFrom(ctx, 4*p.took, func(ctx context.Context) error { return p.once(ctx, group) })
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errAckTimeout) {
		return cause
	}
	return err
}

// once puts a group on the wire and waits for its PubAck.
func (p *publisher) once(ctx context.Context, group []*parcel) error {
	if err := p.fence.Clear(ctx); err != nil {
		return err
	}
	p.batches++
	p.wire = p.wire[:0]
	for _, x := range group {
		p.wire = append(p.wire, x.msg)
	}
	p.fence.Stamp(p.wire[0].Header)
	defer clear(p.wire)
	answer, err := streams.Commit(ctx, p.nc, p.wire, p.nonce+"-"+strconv.FormatUint(p.batches, 36))
	if err != nil {
		p.unsure = true
		p.fence.Unanswered()
		return err
	}
	ack, err := streams.PubAck(answer)
	switch code := wire.APICode(err); {
	case err == nil:
		p.fence.Wrote(ack.Sequence)
	case code == wire.CodeBatchDuplicate: // an earlier try was stored, its PubAck lost
		return nil
	case code == wire.CodeInProcess: // the earlier try
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

// watch gives up a try whose connection is lost, as its PubAck will not come, and ends a pause when the
// connection is back.
func (p *publisher) watch() {
	for {
		select {
		case <-p.ended:
			return
		case s, ok := <-p.status:
			if !ok {
				return
			}
			if s == nats.CONNECTED {
				flow.Signal(p.back)
				continue
			}
			p.mu.Lock()
			if p.abandon != nil {
				p.abandon()
			}
			p.mu.Unlock()
		}
	}
}

func (p *publisher) gone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// close drops what is not stored. No done is called after it.
func (p *publisher) close() {
	p.mu.Lock()
	again := p.closed
	p.closed = true
	if p.abandon != nil {
		p.abandon()
	}
	p.die()
	p.mu.Unlock()
	if again {
		return
	}
	close(p.ended)
	p.work.Wait()
	p.nc.RemoveStatusListener(p.status)
}

// tries counts the failures of something that is tried again until it succeeds. The first in a row is logged, and so is the
// end of them.
type tries struct {
	what     string
	log      *slog.Logger
	note     func(reason string) // is told what is the matter, and "" when it is over
	most     time.Duration       // between two tries
	back     <-chan struct{}     // ends a pause; nil: nothing does
	failures int                 // in a row
}

// pause waits before the next try. It returns false when that is not to be.
func (t *tries) pause(ended <-chan struct{}, err error) bool {
	if t.failures++; t.failures == 1 {
		t.log.Warn("cannot store, trying again", "what", t.what, "error", err)
		t.note("cannot store: " + err.Error())
	}
	timer := time.NewTimer(min(backoffMin<<min(t.failures-1, 10), t.most))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.back:
	case <-ended:
		return false
	}
	return true
}

func (t *tries) succeeded() {
	if t.failures > 0 {
		t.failures = 0
		t.log.Info("storing again", "what", t.what)
		t.note("")
	}
}
