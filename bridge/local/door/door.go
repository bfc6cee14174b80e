package door

import (
	linked "container/list"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fleetbridge/internal/flow"

	"github.com/nats-io/nats-server/v2/server"
)

// Config describes a door.
type Config struct {
	Limits  Limits
	Anybody bool        // without users; who says something is in
	TLS     *tls.Config // nil: none
	Payload int         // the largest that the server takes, in bytes
	// Published hears on what subjects programs publish, and where they want an answer, before the server has it; nil: nobody
	// does. What it returns, if not nil, is called when the server has passed on what came until then.
	Published func(by Place, subject, reply []byte) (passed func())
	Costly    Costly
	Brake     *Brake
	Stirred   chan struct{} // signalled when a program has sent something
	Penal     func(Penalty) // hears what is done to those who take too much; may be nil
	Log       *slog.Logger
}

// Door is the listener that programs connect to. It knows whose each connection is: so many are for those that have
// not logged in, of which the oldest goes for one more, and each user has a share of the rest. Connections within the
// process don't come through it.
type Door struct {
	net.Listener
	cfg     Config
	begun   unfinished
	Sending chan struct{} // programs have sent more

	mu        sync.Mutex
	room      room
	strangers *linked.List // of *arrival, the oldest first
	known     map[*net.TCPAddr]*Arrival
	fading    int           // closed by the door, and the server doesn't know yet
	changed   chan struct{} // a stranger left, or one that was fading
	closed    chan struct{}
	shut      sync.Once
	crowded   time.Time // when it was last said that strangers are let go early
	full      map[string]time.Time
	bans      bans
}

const (
	// backlogTurn is how long a listener's whole backlog waits for its turn while strangers come without end. Clients
	// give up after two seconds, and it is the time that strangers share.
	backlogTurn = time.Second
	leastStay   = 20 * time.Millisecond
	backlog     = 4096 // connections that the system keeps until they are accepted
)

// New takes what comes to a listener, which is closed with it.
func New(l net.Listener, cfg Config) *Door {
	return &Door{Listener: l, cfg: cfg, room: newRoom(cfg.Limits), strangers: linked.New(), known: map[*net.TCPAddr]*Arrival{},
		changed: make(chan struct{}, 1), closed: make(chan struct{}), full: map[string]time.Time{}, bans: bans{}, Sending: make(chan struct{}, 1)}
}

// Arrival is a connection as the server sees it, if there is no TLS. The TCP connection is embedded for its vectored writes.
type Arrival struct {
	*net.TCPConn
	door   *Door
	from   *net.TCPAddr // of this connection only, so that it is found by it
	came   time.Time
	stream func([]byte) (int, error) // reads what the program says

	standing
	reading
	held  atomic.Pointer[marker] // follows what was read last
	heard atomic.Pointer[Place]  // who sends; nil: nobody yet
	Gone  chan struct{}          // closed when it has left
}

// standing is how a connection stands at the door, whose mutex guards it.
type standing struct {
	waits     *linked.Element // among the strangers; nil: logged in, or left
	judged    int             // its password is being looked at; it stays for that long
	place     Place
	in        bool
	dismissed bool
	left      bool
}

// reading is of a connection's reader.
type reading struct {
	spoke bool
	along readAlong
	load  load
	rest  []byte   // read, and not given to the server yet
	after []func() // called when the server has passed on what it got
	begun begun    // of the door's unfinished
}

// Accept implements net.Listener.
func (d *Door) Accept() (net.Conn, error) {
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
		if d.cfg.TLS != nil {
			return a.behindTLS(d.cfg.TLS), nil
		}
		return a, nil
	}
}

// Close implements net.Listener.
func (d *Door) Close() error {
	d.shut.Do(func() { close(d.closed) })
	return d.Listener.Close()
}

func (d *Door) take(tcp *net.TCPConn) *Arrival {
	from := *tcp.RemoteAddr().(*net.TCPAddr)
	a := &Arrival{TCPConn: tcp, door: d, from: &from, came: time.Now(), stream: tcp.Read, Gone: make(chan struct{})}
	a.along.published, a.along.other, a.along.most = a.published, a.said, d.cfg.Payload
	d.mu.Lock()
	defer d.mu.Unlock()
	a.waits = d.strangers.PushBack(a)
	d.known[a.from] = a
	return a
}

// makeRoom waits until there is room for one more stranger. It reports false when the door is closed.
func (d *Door) makeRoom() bool {
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
func (d *Door) tryRoom(now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fading >= d.cfg.Limits.fading() {
		return time.Second
	}
	if d.strangers.Len() < d.cfg.Limits.Strangers {
		return 0
	}
	if flow.Due(&d.crowded, now) {
		d.cfg.Log.Warn("more connections without a login than there is room for: the oldest of them are closed", "room", d.cfg.Limits.Strangers)
	}
	for e := d.strangers.Front(); e != nil; e = e.Next() {
		a := e.Value.(*Arrival)
		if a.judged > 0 {
			continue
		}
		if left := d.cfg.Limits.stay() - now.Sub(a.came); left > 0 {
			return left
		}
		a.dismissed = true
		d.fading++
		d.partLocked(a)
		a.cut()
		return 0
	}
	return d.cfg.Limits.stay()
}

// partLocked takes a connection out of the door's lists.
func (d *Door) partLocked(a *Arrival) {
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
		close(a.Gone)
	}
}

func (d *Door) wake() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// Find is the connection of a client, also one that has left; nil when it is within the process.
func (d *Door) Find(c server.ClientAuthentication) *Arrival {
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
	return &Arrival{door: d, standing: standing{left: true}, Gone: gone}
}

// enter gives a connection its place, and reports whether there is room for it. It may have had another one.
func (d *Door) enter(a *Arrival, p Place) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a.left {
		return false
	}
	if a.in {
		d.room.leave(a.place)
		a.in = false
	}
	if d.bannedLocked(p) {
		return false
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

func (d *Door) sayFullLocked(p Place) {
	said := d.full[p.User]
	if !flow.Due(&said, time.Now()) {
		return
	}
	d.full[p.User] = said
	d.cfg.Log.Warn("a login has all the connections that there is room for, further ones are refused", "user", p.User, "operator", p.Operator,
		"connections", d.room.users.Of(p.User), "of_all_users", d.room.users.Used())
}

// Enter gives the connection its place, and reports whether there is room for it.
func (a *Arrival) Enter(p Place) bool { return a.door.enter(a, p) }

// Judge keeps a stranger from being closed while its password is looked at, until done is called.
func (a *Arrival) Judge() (done func()) {
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
func (a *Arrival) RemoteAddr() net.Addr { return a.from }

// Read implements net.Conn. The server comes back when it has passed on what it got before.
func (a *Arrival) Read(p []byte) (int, error) {
	a.follow()
	for _, passed := range a.after {
		passed()
	}
	a.after = nil
	if a.along.lost { // the server would have ended it
		return 0, errLost
	}
	n, err := a.receive(p)
	if n > 0 && !a.spoke {
		if a.spoke = true; a.door.cfg.Anybody && !a.door.enter(a, Place{anybody: true}) {
			return 0, errNoRoom
		}
	}
	a.load = load{}
	if looked := a.along.look(p[:n]); looked < n {
		a.rest = slices.Concat(p[looked:n], a.rest)
		n = looked
	}
	a.load.bytes += n
	if err := a.door.begun.note(a, a.along.held(), a.door.cfg.Log); err != nil {
		return 0, err
	}
	if n > 0 {
		a.hold()
	}
	return n, err
}

// receive reads what the program has sent.
func (a *Arrival) receive(p []byte) (int, error) {
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
func (a *Arrival) published(subject, reply []byte) (enough bool) {
	p := a.heard.Load()
	if p == nil {
		return false
	}
	a.door.cfg.Costly.add(&a.load, subject, len(reply) > 0)
	if a.door.cfg.Published != nil {
		if passed := a.door.cfg.Published(*p, subject, reply); passed != nil {
			a.after = append(a.after, passed)
		}
	}
	return a.load.api >= apiTurn
}

// said hears of each line that is no message.
func (a *Arrival) said(verb byte) (enough bool) {
	if verb == 's' || verb == 'u' {
		a.load.bytes += subscribing
	}
	return a.load.bytes >= brakeChunk
}

// hold waits until what was read may go to the server. Without users each connection has a share of what may be under
// way, but all have one count of what is too little for a mark.
func (a *Arrival) hold() {
	p := a.heard.Load()
	if p == nil || p.Operator { // who has not logged in is heard by nobody
		return
	}
	flow.Signal(a.door.cfg.Stirred)
	var who any = p.User
	if p.anybody {
		who = a
	}
	if m := a.door.cfg.Brake.hold(who, p.User, a.load, a.Gone); m != nil {
		a.held.Store(m)
		flow.Signal(a.door.Sending)
	}
}

// follow sends the mark behind what was read, once.
func (a *Arrival) follow() {
	if m := a.held.Swap(nil); m != nil {
		m.follow()
	}
}

var (
	errNoRoom = errors.New("there is no room for more connections")
	errLost   = errors.New("what comes is not the protocol of NATS clients")
)

// Close implements net.Conn.
func (a *Arrival) Close() error {
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
