package fleetstest

import (
	"net"
	"slices"
	"time"
)

// chunk is what was read at once.
type chunk struct {
	bytes []byte
	at    time.Time
}

// chunksUnderWay bounds what a delayed link holds.
const chunksUnderWay = 256

// pipe passes one direction of a line on until it ends.
func (l *Link) pipe(c *line, flow Flow) {
	from, to := c.client, c.broker
	if flow == FromBroker {
		from, to = c.broker, c.client
	}
	chunks := make(chan chunk, chunksUnderWay)
	stopped := make(chan struct{})
	go func() {
		defer close(chunks)
		for {
			buffer := make([]byte, 16*1024)
			n, err := from.Read(buffer)
			if n > 0 {
				select {
				case chunks <- chunk{buffer[:n], time.Now()}:
				case <-stopped:
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	defer func() {
		close(stopped)
		_ = from.Close() // ends the reader
		for range chunks {
		}
	}()
	var f framer
	for ch := range chunks {
		if !l.passChunk(c, flow, &f, ch) {
			return
		}
	}
	if !l.gate(c, time.Time{}) {
		return
	}
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}

// passChunk passes a chunk on, packet by packet if somebody wants to interfere. It reports false
// when the line has ended.
func (l *Link) passChunk(c *line, flow Flow, f *framer, ch chunk) bool {
	to := c.broker
	if flow == FromBroker {
		to = c.client
	}
	if !l.gate(c, ch.at) {
		return false
	}
	if !l.armed(flow) {
		for b := ch.bytes; len(b) > 0; {
			n, _, _ := f.step(b)
			b = b[n:]
		}
		return l.write(to, ch.bytes)
	}
	for b := ch.bytes; len(b) > 0; {
		n, first, last := f.step(b)
		if !l.gate(c, ch.at) {
			return false
		}
		if first {
			l.spring(flow, f.packet, false)
			if l.tears(flow) {
				_, _ = to.Write(b[:n/2])
				l.Lock()
				c.reset()
				delete(l.lines, c)
				l.Unlock()
				return false
			}
		}
		if !l.write(to, b[:n]) {
			return false
		}
		if last {
			l.spring(flow, f.packet, true)
		}
		b = b[n:]
	}
	return true
}

// armed tells whether packets of the flow matter.
func (l *Link) armed(flow Flow) bool {
	l.Lock()
	defer l.Unlock()
	return l.torn[flow] || slices.ContainsFunc(l.traps, func(t *trap) bool { return t.flow == flow })
}

func (l *Link) tears(flow Flow) bool {
	l.Lock()
	defer l.Unlock()
	torn := l.torn[flow]
	l.torn[flow] = false
	return torn
}

// gate waits while the link is a black hole, then for the delay since at, and reports whether the
// line is still up.
func (l *Link) gate(c *line, at time.Time) bool {
	for {
		l.Lock()
		_, up := l.lines[c]
		if !up || !l.black {
			delay := l.delay
			l.Unlock()
			if up && delay > 0 && !at.IsZero() {
				l.sleep(time.Until(at.Add(delay)))
			}
			return up
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.Unlock()
		<-changed
	}
}

// write writes no faster than the throttle allows.
func (l *Link) write(to net.Conn, b []byte) bool {
	for len(b) > 0 {
		l.Lock()
		rate := l.rate
		l.Unlock()
		n := len(b)
		if rate > 0 {
			n = min(n, max(1, rate/50))
		}
		if _, err := to.Write(b[:n]); err != nil {
			return false
		}
		if rate > 0 {
			l.sleep(time.Duration(n) * time.Second / time.Duration(rate))
		}
		b = b[n:]
	}
	return true
}

func (l *Link) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.done:
	}
}
