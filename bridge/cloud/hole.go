package cloud

import (
	"fmt"
	"time"
)

// Some links lose large packets, and everything that follows on the connection, without an error: a tunnel with a smaller
// MTU than both ends believe. What was sent behind such a packet must be sent again. So when a connection stalls over a
// packet that is larger than what passed, this counts as one of the packet's tries. From then on it is sent alone, and
// nothing behind it until it is answered. Here the size is judged, and not the message or its kind: what passes is what
// is smaller.

const (
	holeLeast     = 1000 // bytes of a packet that every link carries
	strikesEnough = 3
)

// segmentLeast is the size of a TCP segment, in bytes, that every link carries which knows IPv6.
const segmentLeast = 1200

// hole is what is known about such a link. It is forgotten when something as large passes, and when the server changes.
type hole struct {
	// How many connections stalled over packets of least bytes or more, while smaller ones were answered.
	strikes, least int

	size  int // bytes of the smallest packet that was lost for good; 0: there is none
	at    time.Time
	until time.Time // nothing as large is sent before
}

// takes reports whether a packet is at least as large as one that was lost.
func (h *hole) takes(size int) bool { return h.size > 0 && size >= h.size }

// suspects reports whether a packet is at least as large as one that a connection stalled over.
func (h *hole) suspects(size int) bool { return h.least > 0 && size >= h.least || h.takes(size) }

// lost notes that a packet did not pass, though smaller ones did.
func (h *hole) lost(size int, now time.Time) {
	if h.size == 0 || size < h.size {
		h.size = size
	}
	h.at, h.until = now, now.Add(badFor)
}

// strike notes that a connection stalled over a packet because of its size. strikesEnough of them count as a loss, whatever
// messages they were.
func (h *hole) strike(size int, now time.Time) {
	if h.strikes++; h.least == 0 || size < h.least {
		h.least = size
	}
	if h.strikes >= strikesEnough {
		h.lost(h.least, now)
	}
}

// passed notes that a packet of this size was answered.
func (h *hole) passed(size int) {
	if h.suspects(size) {
		*h = hole{}
	}
}

// unsent says why a packet is not sent; empty: it may be.
func (h *hole) unsent(size int, now time.Time) string {
	if !h.takes(size) || now.After(h.until) {
		return ""
	}
	return fmt.Sprintf("not sent: it has %d bytes, and the link lost a packet of %d bytes at %s; it is tried again after %s",
		size, h.size, h.at.UTC().Format(time.RFC3339), h.until.UTC().Format(time.RFC3339))
}

// refuses reports whether a stall over a message is what is known of the link, and renews that.
func (h *hole) refuses(e *entry, r *refusal, now time.Time) bool {
	size := publishSize(e)
	if !r.fatal || r.hung || !h.takes(size) {
		return false
	}
	h.lost(size, now)
	return true
}

// vanished finds the packet that a connection stalled over because of its size: everything before it was answered, nothing
// behind it, and it is larger than what passed. It does not count if only a part of it had been sent, or if something
// behind it was answered: then only the broker did not acknowledge it.
func (o *outbound) vanished(end loss) *entry {
	e := o.flight.head
	if end.how != stalled || e == nil || e.volatile || o.answered > e.launch || e.passed || e.cutOff(end) {
		return nil
	}
	if o.largest == 0 || publishSize(e) <= max(o.largest, holeLeast) {
		return nil
	}
	e.vanishes = true
	return e
}

// vanishes reports whether what is sent behind a message would be lost with it.
func (o *outbound) vanishes(e *entry) bool { return e.vanishes || o.hole.suspects(publishSize(e)) }

// half reports whether the connection stalled in the middle of a message, and too seldom yet to blame the message for it.
func (e *entry) half(end loss) bool {
	if end.how != stalled || !e.cutOff(end) {
		return false
	}
	e.halves++
	return e.halves < streakEnough
}

// cutOff reports whether the other side had taken a part of a message when the connection ended.
func (e *entry) cutOff(end loss) bool { return end.out > e.start && (e.end == 0 || end.out < e.end) }
