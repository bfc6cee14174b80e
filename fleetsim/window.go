package fleetsim

import (
	"encoding/binary"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

// window is the flow control of one connection to the embedded broker: it lets no more QoS 1 and 2
// messages go out unacknowledged than the client's Receive Maximum, and holds the others back in order.
//
// The library's own flow control is off, for it can end the whole broker. After every packet of a
// client with send quota left and a message in flight, as after a PUBACK, it looks for what it held
// back (Inflight.NextImmediate), and takes the read lock of the client's messages twice over to do so.
// Go's RWMutex lets no second reader in once a writer waits, so a publish to that client that comes
// between the two (Inflight.Set) stops both for ever, and soon everybody who publishes. The library
// also forgets a held message as it sends it, so that a lost connection loses it, and lets newer ones
// overtake. All of it depends on the send quota, which it takes from the Receive Maximum of the
// CONNECT: the broker's hook hides that property, so that the quota and its maximum stay 0, and
// NextImmediate is never called.
//
// What takes the quota's place waits for nothing: a message without room is put in a list, and goes
// out in the goroutine that reads the PUBACK that makes room. The only lock is held over writes to the
// connection, as the library's own is, and nothing else is locked under it. Whoever publishes goes on
// at once, whatever the client does: what it never acknowledges stays in its session, like the
// messages for a client that is away.
type window struct {
	to   io.WriteCloser
	like *Traits

	mu          sync.Mutex
	size        int            // the client's Receive Maximum
	drop        func(uint16)   // takes a message out of the session
	established bool           // the CONNACK, and what the session held, has been written
	copied      map[int64]bool // what the session held, by the order in which it was published
	unacked     map[uint16]publication
	held        []publication
	early       []publication // came before the session was established
	retry       *time.Timer   // with Traits.RetryInterval, while something is unacknowledged
}

// publication is a PUBLISH packet that waits; its id is 0 at QoS 0.
type publication struct {
	id    uint16
	bytes []byte
	sent  time.Time // with Traits.RetryInterval
}

// dupFlag is the flag DUP in the first byte of a PUBLISH.
const dupFlag = 0x08

// Reason codes of a DISCONNECT.
const (
	shuttingDown     = 0x8B
	sessionTakenOver = 0x8E
)

// heldAtMost is from where on QoS 0 messages are dropped. The others are no more than a session may
// hold.
const heldAtMost = 65_536

// write takes exactly one packet, as the library writes them with a write buffer of one byte. It
// returns as soon as a PUBLISH without room is in the list. Other packets overtake those.
func (w *window) write(packet []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch Packet(packet[0] >> 4) {
	case PUBLISH:
	case DISCONNECT:
		if len(packet) > 2 && (packet[2] == sessionTakenOver && w.like.SilentTakeover || packet[2] == shuttingDown && w.like.SilentStop) {
			return len(packet), nil
		}
		fallthrough
	default:
		return w.to.Write(packet)
	}
	m := publication{id: publishID(packet), bytes: packet}
	resent := packet[0]&dupFlag > 0 // the library sets DUP on all that a resumed session held
	switch {
	case !w.established && !resent:
		m.bytes = slices.Clone(packet)
		w.early = append(w.early, m)
	case len(w.held) == 0 && w.room(m):
		return w.send(m)
	case m.id > 0 || len(w.held) < heldAtMost:
		m.bytes = slices.Clone(packet)
		w.hold(m)
	}
	return len(packet), nil
}

// hold keeps a message back. What a full queue drops is gone from the session, too.
func (w *window) hold(m publication) {
	w.held = append(w.held, m)
	if most := w.like.MaxQueue; most == 0 || len(w.held) <= most {
		return
	}
	i := len(w.held) - 1
	if w.like.DropOldest {
		i = 0
	}
	if id := w.held[i].id; id > 0 {
		w.drop(id)
	}
	w.held = slices.Delete(w.held, i, i+1)
}

func (w *window) room(m publication) bool {
	return m.id == 0 || len(w.unacked) < w.size
}

func (w *window) send(m publication) (int, error) {
	if m.id > 0 {
		if every := w.like.RetryInterval; every > 0 {
			m.bytes, m.sent = slices.Clone(m.bytes), time.Now()
			if w.retry == nil {
				w.retry = time.AfterFunc(every, w.resend)
			}
		}
		w.unacked[m.id] = m
	}
	return w.to.Write(m.bytes)
}

// resend sends again, in order, what is unacknowledged for Traits.RetryInterval. It ends when nothing is, or the
// connection has.
func (w *window) resend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.retry = nil
	if len(w.unacked) == 0 {
		return
	}
	all := slices.SortedFunc(maps.Values(w.unacked), func(a, b publication) int { return a.sent.Compare(b.sent) })
	now, every := time.Now(), w.like.RetryInterval
	for _, m := range all {
		if now.Sub(m.sent) < every {
			break
		}
		m.bytes[0] |= dupFlag
		m.sent = time.Now()
		w.unacked[m.id] = m
		if _, err := w.to.Write(m.bytes); err != nil {
			return
		}
	}
	w.retry = time.AfterFunc(every-now.Sub(all[0].sent)%every, w.resend)
}

// inFlight are the messages that were sent and not acknowledged.
func (w *window) inFlight() map[uint16]publication {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.unacked)
}

// isEstablished reports whether new messages may go out.
func (w *window) isEstablished() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.established
}

// width is how many may be.
func (w *window) width() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size
}

// connect sets how many messages may be unacknowledged, and what takes one out of the session.
func (w *window) connect(size int, drop func(uint16)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.size, w.drop = size, drop
	w.unacked, w.copied = map[uint16]publication{}, map[int64]bool{}
}

// copy notes a message of the session that the connection resumes.
func (w *window) copy(order int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.copied[order] = true
}

// wasCopied reports whether the session that the connection resumed had the message.
func (w *window) wasCopied(order int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.copied[order]
}

// establish lets new messages follow those of the resumed session. The library puts a new client
// among the subscribers before it writes the CONNACK and resends, so that some come before both, and
// some twice.
func (w *window) establish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.established = true
	for _, m := range w.early {
		_, sent := w.unacked[m.id]
		if !sent && (m.id == 0 || !slices.ContainsFunc(w.held, func(h publication) bool { return h.id == m.id })) {
			w.hold(m)
		}
	}
	w.early = nil
	w.flush()
}

// acknowledge makes room. It returns when what then has room is written; a failed write closes the
// connection.
func (w *window) acknowledge(id uint16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.unacked, id)
	w.flush()
}

func (w *window) flush() {
	for len(w.held) > 0 && w.room(w.held[0]) {
		m := w.held[0]
		w.held[0] = publication{}
		w.held = w.held[1:]
		if _, err := w.send(m); err != nil {
			_ = w.to.Close()
			return
		}
	}
}

// publishID is the packet identifier of a PUBLISH, 0 at QoS 0.
func publishID(packet []byte) uint16 {
	if packet[0]&0x06 == 0 {
		return 0
	}
	at := 1
	for packet[at]&0x80 > 0 { // the remaining length
		at++
	}
	at++
	at += 2 + int(binary.BigEndian.Uint16(packet[at:])) // the topic
	return binary.BigEndian.Uint16(packet[at:])
}
