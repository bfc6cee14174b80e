package fleetsim

import (
	"math/rand/v2"
	"net"
	"time"
)

// Shape is how one direction of a Link carries what is sent into it. The zero value is a good link.
type Shape struct {
	// Rate is in bytes a second and connection; 0: no limit. A connection that is made while there is one holds a
	// few kB on its way, not more, so that its sender sees how slow it is (not on Windows).
	Rate int
	// Delay is how much later every byte arrives.
	Delay time.Duration
	// Jitter is how much later still it may arrive, at random. The order stays, as with TCP.
	Jitter time.Duration
	// Hole, if not 0, is the size in bytes above which an MQTT packet vanishes, and all that comes behind it on the
	// same connection and in the same direction, as with TCP in a tunnel that loses large segments and says nothing.
	// What is smaller passes; so does the other direction.
	Hole int
	// Seed is that of Jitter.
	Seed uint64
}

// bufferFor is how much the kernel is asked to hold of a direction with that rate; Linux takes twice as much.
func bufferFor(rate int) int {
	if rate == 0 {
		return 64 << 10
	}
	return min(max(2048, rate/4), 64<<10)
}

// Shape sets how a direction carries what is sent from now on; what is under way keeps its time.
func (l *Link) Shape(flow Flow, s Shape) {
	l.Lock()
	defer l.Unlock()
	l.shapes[flow] = s
	l.hold()
}

// Delay lets every byte arrive so much later, in both directions.
func (l *Link) Delay(d time.Duration) { l.reshape(func(s *Shape) { s.Delay = d }) }

// Throttle limits each direction of each connection to so many bytes a second; 0: no limit.
func (l *Link) Throttle(bytesPerSecond int) { l.reshape(func(s *Shape) { s.Rate = bytesPerSecond }) }

func (l *Link) reshape(edit func(*Shape)) {
	l.Lock()
	defer l.Unlock()
	for flow := range l.shapes {
		edit(&l.shapes[flow])
	}
	l.hold()
}

// hold bounds what is under way of connections that are made later, so that their senders see how slow the link is.
func (l *Link) hold() {
	rate := l.shapes[FromClient].Rate
	if l.held = l.held || rate > 0; !l.held {
		return
	}
	if c, err := l.listener.(*net.TCPListener).SyscallConn(); err == nil {
		receiveBuffer(c, bufferFor(rate))
	}
}

func (l *Link) shape(flow Flow) Shape {
	l.Lock()
	defer l.Unlock()
	return l.shapes[flow]
}

// Carried is the number of bytes that were sent into a direction, over all connections, whether they arrived or not.
func (l *Link) Carried(flow Flow) int64 { return l.carried[flow].Load() }

// chunk is what was read at once, and when it may arrive.
type chunk struct {
	bytes []byte
	due   time.Time
}

// chunksUnderWay bounds what a direction of a connection holds: 13 s of a slow link, 4 MiB of a fast one.
const chunksUnderWay = 256

const (
	mostAtOnce    = 16 * 1024
	piecesASecond = 20
)

// pipette takes what is sent into a direction of a connection, as fast as its shape allows.
type pipette struct {
	*Link
	flow    Flow
	from    net.Conn
	chunks  chan<- chunk
	stopped <-chan struct{}
	random  *rand.Rand
}

func (l *Link) pipette(c *line, flow Flow, chunks chan<- chunk, stopped <-chan struct{}) *pipette {
	p := &pipette{Link: l, flow: flow, from: c.client, chunks: chunks, stopped: stopped,
		random: rand.New(rand.NewPCG(l.shape(flow).Seed, uint64(2*c.number)+uint64(flow)))}
	if flow == FromBroker {
		p.from = c.broker
	}
	return p
}

// run ends when the sender does, or when stopped is closed.
func (p *pipette) run() {
	defer close(p.chunks)
	for {
		buffer := make([]byte, p.most(mostAtOnce))
		n, err := p.from.Read(buffer)
		p.carried[p.flow].Add(int64(n))
		for b := buffer[:n]; len(b) > 0; { // the shape may have changed while there was nothing to read
			n := p.most(len(b))
			if !p.pass(b[:n]) {
				return
			}
			b = b[n:]
		}
		if err != nil {
			return
		}
	}
}

// most is how much of n bytes goes at once.
func (p *pipette) most(n int) int {
	if rate := p.shape(p.flow).Rate; rate > 0 {
		return min(n, max(1, rate/piecesASecond))
	}
	return n
}

// pass takes the time that the bytes need, and sends them on their way. It reports false when that is not wanted any
// more.
func (p *pipette) pass(b []byte) bool {
	s := p.shape(p.flow)
	if s.Rate > 0 {
		t := time.NewTimer(time.Duration(len(b)) * time.Second / time.Duration(s.Rate))
		defer t.Stop()
		select {
		case <-t.C:
		case <-p.stopped:
			return false
		}
	}
	due := time.Now().Add(s.Delay)
	if s.Jitter > 0 {
		due = due.Add(time.Duration(p.random.Int64N(int64(s.Jitter))))
	}
	select {
	case p.chunks <- chunk{b, due}:
		return true
	case <-p.stopped:
		return false
	}
}
