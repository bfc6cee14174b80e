package door

import (
	"net"

	"github.com/nats-io/nats-server/v2/server"
)

// Cut ends connections at once: the server would wait for what it writes, and keep what it has for them.
func (d *Door) Cut(conns []*server.ConnInfo) {
	ports := make(map[int]string, len(conns))
	for _, c := range conns {
		ports[c.Port] = c.IP
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var cut []*Arrival
	for from, a := range d.known {
		if ip, ok := ports[from.Port]; ok && from.IP.Equal(net.ParseIP(ip)) {
			cut = append(cut, a)
			a.cut()
		}
	}
	d.punishLocked(cut...)
}

// punish notes that a connection is cut.
func (d *Door) punish(a *Arrival) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.punishLocked(a)
}

// cut ends a connection at once: what was not sent yet is of no use, and nothing of it stays with the kernel.
func (a *Arrival) cut() {
	_ = a.SetLinger(0)
	_ = a.TCPConn.Close()
}
