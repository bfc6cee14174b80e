package local

import (
	linked "container/list"
	"crypto/tls"
	"errors"
	"fleetbridge/internal/flow"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/nats-io/nats-server/v2/server"
)

// door is the listener that programs connect to. It knows whose each connection is: so many are for those that have
// not logged in, of which the oldest goes for one more, and each user has a share of the rest. Connections within the
// process don't come through it.
type door struct {
	net.Listener
	log     *slog.Logger
	anybody bool        // without users; who says something is in
	tls     *tls.Config // nil: none
	payload int         // the largest that the server takes, in bytes
	// published hears on what subjects programs publish.
	published func(by place, subject []byte)
	costly    costly
	brake     *Brake
	begun     unfinished
	sending   chan struct{} // programs have sent more
	stirred   chan struct{} // the server's

	mu        sync.Mutex
	room      room
	limits    roomLimits
	strangers *linked.List // of *arrival, the oldest first
	known     map[*net.TCPAddr]*arrival
	fading    int           // closed by the door, and the server doesn't know yet
	changed   chan struct{} // a stranger left, or one that was fading
	closed    chan struct{}
	shut      sync.Once
	crowded   time.Time // when it was last said that strangers are let go early
	full      map[string]time.Time
}

const (
	// backlogTurn is how long a listener's whole backlog waits for its turn while strangers come without end. Clients
	// give up after two seconds, and it is the time that strangers share.
	backlogTurn = time.Second
	leastStay   = 20 * time.Millisecond
	backlog     = 4096 // connections that the system keeps until they are accepted
	// fullAgain is how often the same is said.
	fullAgain = time.Minute
)

// due reports whether something may be said again, and notes that it is.
func due(said *time.Time, now time.Time) bool {
	if now.Sub(*said) < fullAgain {
		return false
	}
	*said = now
	return true
}

func newDoor(l net.Listener, limits roomLimits, anybody bool, brake *Brake, log *slog.Logger) *door {
	return &door{Listener: l, log: log, anybody: anybody, brake: brake, limits: limits, room: newRoom(limits), strangers: linked.New(), known: map[*net.TCPAddr]*arrival{},
		changed: make(chan struct{}, 1), closed: make(chan struct{}), full: map[string]time.Time{}, sending: make(chan struct{}, 1)}
}

// arrival is a connection as the server sees it, if there is no TLS. The TCP connection is embedded for its vectored writes.
type arrival struct {
	*net.TCPConn
	door   *door
	from   *net.TCPAddr // of this connection only, so that it is found by it
	came   time.Time
	stream func([]byte) (int, error) // reads what the program says

	// Of the door's mutex.
	waits     *linked.Element // among the strangers; nil: logged in, or left
	judged    int             // its password is being looked at; it stays for that long
	place     place
	in        bool
	dismissed bool
	left      bool

	gone  chan struct{} // closed when it has left
	spoke bool          // of the reader, as these
	along readAlong
	load  load
	rest  []byte                 // read, and not given to the server yet
	begun begun                  // of the door's unfinished
	held  atomic.Pointer[marker] // follows what was read last
	heard atomic.Pointer[place]  // who sends; nil: nobody yet
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := c.(*net.TCPConn)
		if !ok {
			return c, nil
		}
		if hungUp(tcp) { // while it waited; the server would take longer to find out
			_ = tcp.Close()
			continue
		}
		if !d.makeRoom() {
			_ = tcp.Close()
			return nil, net.ErrClosed
		}
		a := d.take(tcp)
		if d.tls != nil {
			return a.behindTLS(d.tls), nil
		}
		return a, nil
	}
}

// Close implements net.Listener.
func (d *door) Close() error {
	d.shut.Do(func() { close(d.closed) })
	return d.Listener.Close()
}

func (d *door) take(tcp *net.TCPConn) *arrival {
	from := *tcp.RemoteAddr().(*net.TCPAddr)
	a := &arrival{TCPConn: tcp, door: d, from: &from, came: time.Now(), stream: tcp.Read, gone: make(chan struct{})}
	a.along.published, a.along.most = a.published, d.payload
	d.mu.Lock()
	defer d.mu.Unlock()
	a.waits = d.strangers.PushBack(a)
	d.known[a.from] = a
	return a
}

// makeRoom waits until there is room for one more stranger. It reports false when the door is closed.
func (d *door) makeRoom() bool {
	for {
		wait := d.tryRoom(time.Now())
		if wait <= 0 {
			return true
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-d.changed:
		case <-d.closed:
			timer.Stop()
			return false
		}
		timer.Stop()
	}
}

// tryRoom is 0 when there is room, else how long to wait at most.
func (d *door) tryRoom(now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fading >= d.limits.fading() {
		return time.Second
	}
	if d.strangers.Len() < d.limits.strangers {
		return 0
	}
	if due(&d.crowded, now) {
		d.log.Warn("more connections without a login than there is room for: the oldest of them are closed", "room", d.limits.strangers)
	}
	for e := d.strangers.Front(); e != nil; e = e.Next() {
		a := e.Value.(*arrival)
		if a.judged > 0 {
			continue
		}
		if left := d.limits.stay() - now.Sub(a.came); left > 0 {
			return left
		}
		a.dismissed = true
		d.fading++
		d.partLocked(a)
		a.cut()
		return 0
	}
	return d.limits.stay()
}

// partLocked takes a connection out of the door's lists.
func (d *door) partLocked(a *arrival) {
	if a.waits != nil {
		d.strangers.Remove(a.waits)
		a.waits = nil
		d.wake()
	}
	if a.in {
		a.in = false
		d.room.leave(a.place)
	}
	if !a.left {
		a.left = true
		delete(d.known, a.from)
		close(a.gone)
	}
}

func (d *door) wake() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// find is the connection of a client, also one that has left; nil when it is within the process.
func (d *door) find(c server.ClientAuthentication) *arrival {
	from, ok := c.RemoteAddress().(*net.TCPAddr)
	if !ok {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if a := d.known[from]; a != nil {
		return a
	}
	gone := make(chan struct{})
	close(gone)
	return &arrival{door: d, left: true, gone: gone}
}

// enter gives a connection its place, and reports whether there is room for it. It may have had another one.
func (d *door) enter(a *arrival, p place) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a.left {
		return false
	}
	if a.in {
		d.room.leave(a.place)
		a.in = false
	}
	if !d.room.enter(p) {
		d.sayFullLocked(p)
		return false
	}
	a.in, a.place = true, p
	a.heard.Store(&p)
	if a.waits != nil {
		d.strangers.Remove(a.waits)
		a.waits = nil
		d.wake()
	}
	return true
}

func (d *door) sayFullLocked(p place) {
	now := time.Now()
	if now.Sub(d.full[p.user]) < fullAgain {
		return
	}
	d.full[p.user] = now
	d.log.Warn("a login has all the connections that there is room for, further ones are refused", "user", p.user, "operator", p.operator,
		"connections", d.room.users.Of(p.user), "of_all_users", d.room.users.Used())
}

// judge keeps a stranger from being closed while its password is looked at, until done is called.
func (a *arrival) judge() (done func()) {
	if a == nil {
		return func() {}
	}
	a.door.mu.Lock()
	defer a.door.mu.Unlock()
	a.judged++
	return func() {
		a.door.mu.Lock()
		defer a.door.mu.Unlock()
		a.judged--
	}
}

// RemoteAddr implements net.Conn.
func (a *arrival) RemoteAddr() net.Addr { return a.from }

// Read implements net.Conn. The server comes back when it has passed on what it got before.
func (a *arrival) Read(p []byte) (int, error) {
	a.follow()
	if a.along.lost { // the server would have ended it
		return 0, errLost
	}
	n, err := a.receive(p)
	if n > 0 && !a.spoke {
		if a.spoke = true; a.door.anybody && !a.door.enter(a, place{anybody: true}) {
			return 0, errNoRoom
		}
	}
	a.load = load{}
	if looked := a.along.look(p[:n]); looked < n {
		a.rest = slices.Concat(p[looked:n], a.rest)
		n = looked
	}
	a.load.bytes = n
	if err := a.door.begun.note(a, a.along.unfinished(), a.door.log); err != nil {
		return 0, err
	}
	if n > 0 {
		a.hold()
	}
	return n, err
}

// receive reads what the program has sent.
func (a *arrival) receive(p []byte) (int, error) {
	if len(a.rest) == 0 {
		return a.stream(p)
	}
	n := copy(p, a.rest)
	if a.rest = a.rest[n:]; len(a.rest) == 0 {
		a.rest = nil // it may be large
	}
	return n, nil
}

// published hears of each message that the program sends; who has not logged in sends none.
func (a *arrival) published(subject []byte, asks bool) (enough bool) {
	p := a.heard.Load()
	if p == nil {
		return false
	}
	a.door.costly.add(&a.load, subject, asks)
	if a.door.published != nil {
		a.door.published(*p, subject)
	}
	return a.load.api >= apiTurn
}

// hold waits until what was read may go to the server. Without users each connection has a share of what may be under
// way, but all have one count of what is too little for a mark.
func (a *arrival) hold() {
	p := a.heard.Load()
	if p == nil || p.operator { // who has not logged in is heard by nobody
		return
	}
	flow.Signal(a.door.stirred)
	var who any = p.user
	if p.anybody {
		who = a
	}
	if m := a.door.brake.hold(who, p.user, a.load, a.gone); m != nil {
		a.held.Store(m)
		flow.Signal(a.door.sending)
	}
}

// follow sends the mark behind what was read, once.
func (a *arrival) follow() {
	if m := a.held.Swap(nil); m != nil {
		m.follow()
	}
}

var (
	errNoRoom = errors.New("there is no room for more connections")
	errLost   = errors.New("what comes is not the protocol of NATS clients")
)

// Close implements net.Conn.
func (a *arrival) Close() error {
	err := a.TCPConn.Close()
	a.follow()
	d := a.door
	d.begun.end(a)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.partLocked(a)
	if a.dismissed {
		a.dismissed = false
		d.fading--
		d.wake()
	}
	return err
}

// listenOn makes the server accept from l. The server takes a listener that it has already, and offers no way to give it
// one; TestServerTakesOurListener fails when that changes.
func listenOn(s *server.Server, l net.Listener) error {
	field := reflect.ValueOf(s).Elem().FieldByName("listener")
	if !field.IsValid() || field.Type() != reflect.TypeFor[net.Listener]() {
		return errors.New("this version of the NATS server takes no listener of ours")
	}
	*(*net.Listener)(unsafe.Pointer(field.UnsafeAddr())) = l
	ready := make(chan struct{})
	go s.AcceptLoop(ready)
	<-ready
	return nil
}
