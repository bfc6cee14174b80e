package soak

import (
	"hash/maphash"
	"sync"

	"fleetbridge/fleetsim"
)

// bill is what has to cross the link, in bytes of MQTT: every message once, with its topic and its header, one
// acknowledgement of each, one handshake, and the pings.
type bill struct {
	seed maphash.Seed

	mu       sync.Mutex
	need     [2]int64
	messages map[uint64]bool // by flow, topic and payload
	distinct [2]int
	acked    [2]int
	shaken   map[fleetsim.Packet]bool
}

func newBill() *bill {
	return &bill{seed: maphash.MakeSeed(), messages: map[uint64]bool{}, shaken: map[fleetsim.Packet]bool{}}
}

// note adds a packet, unless it is one too many.
func (b *bill) note(k Packet) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch k.Type {
	case fleetsim.PUBLISH:
		m := k.publish()
		sum := maphash.Comparable(b.seed, [...]any{k.Flow, m.Topic, string(m.Payload)})
		if b.messages[sum] {
			return
		}
		b.messages[sum] = true
		b.distinct[k.Flow]++
	case fleetsim.PUBACK:
		if b.acked[k.Flow]++; b.acked[k.Flow] > b.distinct[1-k.Flow] {
			return
		}
	case fleetsim.PINGREQ, fleetsim.PINGRESP:
	default:
		if b.shaken[k.Type] {
			return
		}
		b.shaken[k.Type] = true
	}
	b.need[k.Flow] += int64(len(k.Raw))
}

// add counts what never came as far as the wire.
func (b *bill) add(flow fleetsim.Flow, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.need[flow] += int64(bytes)
}

// thrift is how much more than what has to cross a link may cross it.
const thrift = 1.3

// Thrifty judges at the end whether no more has crossed the link, in either direction, than times what had to.
func (s *Site) Thrifty(times float64) {
	s.Check(func() {
		for flow, name := range []string{"up", "down"} {
			s.Wire.bill.mu.Lock()
			need := s.Wire.bill.need[flow]
			s.Wire.bill.mu.Unlock()
			sent := s.Link.Carried(fleetsim.Flow(flow))
			s.Logf("%s: %d bytes sent, %d had to be: %.2f times; %d connections", name, sent, need, float64(sent)/float64(need), s.Link.Accepted())
			if float64(sent) > times*float64(need) {
				s.Errorf("%s: %d bytes were sent where %d had to be, more than %.1f times as many", name, sent, need, times)
			}
		}
	})
}
