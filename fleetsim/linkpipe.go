package fleetsim

import (
	"net"
	"slices"
	"time"
)

// pipe passes one direction of a line on until it ends.
func (l *Link) pipe(c *line, flow Flow) {
	from, to := c.client, c.broker
	if flow == FromBroker {
		from, to = c.broker, c.client
	}
	chunks := make(chan chunk, chunksUnderWay)
	stopped := make(chan struct{})
	go l.pipette(c, flow, chunks, stopped).run()
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
		if f.lost {
			break
		}
	}
	for range chunks { // until the sender gives up: nothing of this arrives
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
	if !l.gate(c, ch.due) {
		return false
	}
	if !l.armed(flow) {
		for b := ch.bytes; len(b) > 0; {
			n, _, _ := f.step(b)
			b = b[n:]
		}
		return l.write(to, ch.bytes)
	}
	hole := l.shape(flow).Hole
	for b := ch.bytes; len(b) > 0; {
		n, first, last := f.step(b)
		if !l.gate(c, ch.due) {
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
		if f.lost = hole > 0 && f.size > hole; f.lost {
			return true
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

// armed reports whether packets of the flow matter.
func (l *Link) armed(flow Flow) bool {
	l.Lock()
	defer l.Unlock()
	return l.torn[flow] || l.shapes[flow].Hole > 0 || slices.ContainsFunc(l.traps, func(t *trap) bool { return t.flow == flow })
}

func (l *Link) tears(flow Flow) bool {
	l.Lock()
	defer l.Unlock()
	torn := l.torn[flow]
	l.torn[flow] = false
	return torn
}

// gate waits while the link is a black hole, then until due, and reports whether the line is still up.
func (l *Link) gate(c *line, due time.Time) bool {
	for {
		l.Lock()
		_, up := l.lines[c]
		if !up || !l.black {
			l.Unlock()
			if up && !due.IsZero() {
				l.sleep(time.Until(due))
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

func (l *Link) write(to net.Conn, b []byte) bool {
	_, err := to.Write(b)
	return err == nil
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
