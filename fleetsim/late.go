package fleetsim

import (
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// late keeps what is published to a session in the moment in which another connection takes it over. The library
// copies the older connection's messages, and forgets what comes to that connection afterwards; here it goes to the
// connection that has the session now. Some messages go out twice for it, as QoS 1 allows.
type late struct {
	server *mqtt.Server

	mu sync.Mutex
	of map[string][]packets.Packet // by client ID
}

// put takes a message that came to a connection whose session is taken over.
func (l *late) put(clientID string, pks ...packets.Packet) {
	l.mu.Lock()
	l.of[clientID] = append(l.of[clientID], pks...)
	l.mu.Unlock()
	if cl, ok := l.server.Clients.Get(clientID); ok {
		if c, ok := cl.Net.Conn.(*watchedConn); ok && c.window.isEstablished() {
			l.deliver(cl)
		}
	}
}

// establish lets the connection's window open, and sends what came too late to be copied.
func (l *late) establish(cl *mqtt.Client, w *window) {
	w.establish()
	l.deliver(cl)
}

// deliver puts the messages in the client's session and sends them. Those that were copied have been sent, or dropped for
// want of room, already. A client that began a new session gets none.
func (l *late) deliver(cl *mqtt.Client) {
	l.mu.Lock()
	pks := l.of[cl.ID]
	delete(l.of, cl.ID)
	l.mu.Unlock()
	if len(pks) == 0 || cl.Properties.Clean {
		return
	}
	for _, pk := range pks {
		if c, ok := cl.Net.Conn.(*watchedConn); !ok || c.window.wasCopied(pk.Created) {
			continue
		}
		id, err := cl.NextPacketID()
		if err != nil {
			break // 65,535 are in flight: the session is full
		}
		pk.PacketID, pk.FixedHeader.Dup = uint16(id), true
		cl.State.Inflight.Set(pk)
		_ = cl.WritePacket(pk) // a failed write ends the connection; the message is in the session
	}
	if cl.IsTakenOver() { // perhaps after the next one copied the session
		l.put(cl.ID, pks...)
	}
}
