package fleetsim

import (
	"fmt"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// burstTime is the time over which messages to one client are counted for Traits.Burst.
const burstTime = 100 * time.Millisecond

// admission is what the broker remembers of a client beside its session.
type admission struct {
	connects []time.Time // for Traits.Flapping
	banned   time.Time   // until then
	burst    time.Time   // when counting began
	count    int
}

// admit returns a client's, with the lock held.
func (b *Broker) admit(clientID string) *admission {
	a := b.admissions[clientID]
	if a == nil {
		a = &admission{}
		b.admissions[clientID] = a
	}
	return a
}

// Kick ends a client's connection with DISCONNECT 0x98, and its session, as an EMQX administrator does.
func (b *Broker) Kick(clientID string) error {
	cl, ok := b.server.Clients.Get(clientID)
	if !ok {
		return fmt.Errorf("client %q: %w", clientID, ErrNotConnected)
	}
	b.endSession(cl)
	_ = b.server.DisconnectClient(cl, packets.Code{Code: 0x98})
	return nil
}

// Ban refuses a client's next CONNECTs with 0x8A, for so long; 0 takes it back. It does not end a connection.
func (b *Broker) Ban(clientID string, d time.Duration) {
	b.Lock()
	defer b.Unlock()
	b.admit(clientID).banned = time.Now().Add(d)
}

func (b *Broker) banned(clientID string) bool {
	b.Lock()
	defer b.Unlock()
	a := b.admissions[clientID]
	return a != nil && time.Now().Before(a.banned)
}

// connected counts a connection, and bans who has had too many.
func (b *Broker) connected(clientID string) {
	f := b.like.Flapping
	if f.Count == 0 {
		return
	}
	b.Lock()
	defer b.Unlock()
	a, now := b.admit(clientID), time.Now()
	a.connects = append(a.connects, now)
	for now.Sub(a.connects[0]) > f.Within {
		a.connects = a.connects[1:]
	}
	if len(a.connects) >= f.Count {
		a.connects, a.banned = nil, now.Add(f.For)
	}
}

// Restart ends every connection, and every session that the broker's traits do not keep, as a restart of the broker
// does. It can be reached all the time; cut a Link to have it away for a while.
func (b *Broker) Restart() {
	for _, cl := range b.server.Clients.GetAll() {
		if cl.Net.Inline {
			continue
		}
		if !b.like.KeepSessions {
			b.endSession(cl)
		}
		if !cl.Closed() {
			_ = b.server.DisconnectClient(cl, packets.ErrServerShuttingDown)
		}
	}
}

// endSession forgets what a client is subscribed to, and what waits for it. Its connection is still there, and is
// ended behind this: a client that comes back before would have the session.
func (b *Broker) endSession(cl *mqtt.Client) {
	if now, ok := b.server.Clients.Get(cl.ID); ok && now == cl {
		b.server.Clients.Delete(cl.ID)
		b.server.UnsubscribeClient(cl)
	}
	cl.ClearInflights()
}

// bursts counts a message for a client, and reports whether it is one too many.
func (b *Broker) bursts(clientID string) bool {
	if b.like.Burst == 0 {
		return false
	}
	b.Lock()
	defer b.Unlock()
	a, now := b.admit(clientID), time.Now()
	if now.Sub(a.burst) > burstTime {
		a.burst, a.count = now, 0
	}
	a.count++
	return a.count > b.like.Burst
}

// overflows drops a message when more wait for a client that is away than its queue holds. For one that is connected
// its window does that.
func (b *Broker) overflows(cl *mqtt.Client, id uint16) {
	c, ok := cl.Net.Conn.(*watchedConn)
	if !ok || b.like.MaxQueue == 0 {
		return
	}
	unacked := c.window.inFlight()
	if cl.State.Inflight.Len()-len(unacked) <= b.like.MaxQueue {
		return
	}
	if b.like.DropOldest {
		oldest := int64(0)
		for _, m := range cl.State.Inflight.GetAll(false) {
			if _, sent := unacked[m.PacketID]; !sent && (oldest == 0 || m.Created < oldest) {
				oldest, id = m.Created, m.PacketID
			}
		}
	}
	cl.State.Inflight.Delete(id)
}
