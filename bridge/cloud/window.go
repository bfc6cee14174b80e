package cloud

import "time"

const (
	// What may be in flight on a new connection, before it has shown that it works. Each PUBACK lets one message more go, up
	// to the broker's Receive Maximum.
	firstMessages = 16
	firstBytes    = 64 << 10
	// slack is how much longer than the quickest a round trip may take to widen the window. On a full link, more messages in
	// flight only delay those that come next, such as a command's response behind events.
	slack = time.Second
)

// window bounds what is in flight by what the connection has shown so far.
type window struct {
	messages int
	bytes    int
	flying   int // bytes in flight
	quickest time.Duration
}

// open begins a connection. cautious: those before it brought nothing.
func (w *window) open(cautious bool) {
	*w = window{messages: firstMessages, bytes: firstBytes}
	if cautious {
		*w = window{messages: 1}
	}
}

// has reports whether there is room for one more message, with so many in flight. There always is for the first one, and
// for a large one while half of the window is free. Otherwise it, and all behind it, would wait until nothing is in flight.
func (w *window) has(inFlight, size int) bool {
	return inFlight == 0 || inFlight < w.messages && (w.flying+size <= w.bytes || w.flying <= w.bytes/2)
}

// acked widens the window after a PUBACK that took so long.
func (w *window) acked(size int, took time.Duration) {
	if w.quickest == 0 || took < w.quickest {
		w.quickest = took
	}
	if took > 2*w.quickest+slack {
		return
	}
	w.messages = min(w.messages+1, 1<<16)
	w.bytes = min(w.bytes+max(size, firstBytes/firstMessages), 1<<30)
}
