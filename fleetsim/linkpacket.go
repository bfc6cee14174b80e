package fleetsim

// Flow is a direction on a Link.
type Flow int

const (
	FromClient Flow = iota
	FromBroker
)

// Packet is an MQTT control packet type.
type Packet byte

// The packet types.
const (
	CONNECT Packet = iota + 1
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH
)

// framer finds the packets in a byte stream without keeping any of it.
type framer struct {
	within bool   // inside a packet
	packet Packet // its type
	length bool   // its remaining length is being read
	shift  int
	rest   int  // bytes still to come after the length
	size   int  // of the whole packet, once its length is known, else of what there is of it
	lost   bool // it has vanished, and nothing behind it arrives
}

// step consumes the bytes that belong to one packet, or the part of it that is there. first and last
// tell whether they begin and end it.
func (f *framer) step(b []byte) (n int, first, last bool) {
	if !f.within {
		f.within, f.packet, f.length, f.shift, f.rest = true, Packet(b[0]>>4), true, 0, 0
		n, first, f.size = 1, true, 1
	}
	for f.length && n < len(b) {
		f.rest |= int(b[n]&0x7f) << f.shift
		f.shift += 7
		f.length = b[n]&0x80 != 0 && f.shift < 28
		n++
		if f.size++; !f.length {
			f.size += f.rest
		}
	}
	if !f.length {
		taken := min(f.rest, len(b)-n)
		n += taken
		f.rest -= taken
		f.within = f.rest > 0
	}
	return n, first, !f.within
}

// trap is something to do at one packet.
type trap struct {
	flow   Flow
	packet Packet
	after  bool
	count  int // packets still to pass first
	do     func()
}

// Before calls f when the n-th packet of the type, counted from now over all connections, is about
// to be passed on; the packet waits until f returns. If f cuts the link, the packet is lost.
func (l *Link) Before(flow Flow, packet Packet, n int, f func()) {
	l.set(&trap{flow, packet, false, n, f})
}

// After calls f when the n-th packet of the type has been passed on; what follows it in the same flow
// waits until f returns, the other flow does not.
func (l *Link) After(flow Flow, packet Packet, n int, f func()) {
	l.set(&trap{flow, packet, true, n, f})
}

// CutBefore cuts the link instead of passing the n-th packet of the type on. The channel is closed
// when that has happened; Restore makes the link whole again.
func (l *Link) CutBefore(flow Flow, packet Packet, n int) <-chan struct{} {
	cut := make(chan struct{})
	l.Before(flow, packet, n, func() { l.Cut(); close(cut) })
	return cut
}

// CutAfter cuts the link when the n-th packet of the type has been passed on, before or after the
// other side's answer to it comes through.
func (l *Link) CutAfter(flow Flow, packet Packet, n int) <-chan struct{} {
	cut := make(chan struct{})
	l.After(flow, packet, n, func() { l.Cut(); close(cut) })
	return cut
}

// HoldBefore holds the n-th packet of the type, and what comes behind it, until release is called;
// reached is closed when it is there.
func (l *Link) HoldBefore(flow Flow, packet Packet, n int) (reached <-chan struct{}, release func()) {
	at, free := make(chan struct{}), make(chan struct{})
	l.Before(flow, packet, n, func() {
		close(at)
		select {
		case <-free:
		case <-l.done:
		}
	})
	return at, func() { close(free) }
}

func (l *Link) set(t *trap) {
	l.Lock()
	defer l.Unlock()
	l.traps = append(l.traps, t)
}

// spring runs the traps that are due.
func (l *Link) spring(flow Flow, packet Packet, after bool) {
	l.Lock()
	var due []func()
	left := l.traps[:0:0]
	for _, t := range l.traps {
		if t.flow == flow && t.packet == packet && t.after == after {
			t.count--
		}
		if t.count <= 0 {
			due = append(due, t.do)
		} else {
			left = append(left, t)
		}
	}
	l.traps = left
	l.Unlock()
	for _, f := range due {
		f()
	}
}
