package soak

import (
	"time"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
)

// After the third connection in a row that lived short the bridge waits longer and longer, as it
// should; so a round breaks the link three times and the next one has a new bridge.
const breaks = 3

func linkScenarios() []Scenario {
	return []Scenario{
		{Name: "link cut", Common: true, Faults: "the link is reset, and refuses connections for up to 0.3 s", Run: linkCut},
		{Name: "link cut in handshake", Faults: "the link is cut before or after CONNECT, CONNACK, SUBSCRIBE, SUBACK", Run: linkCutHandshake},
		{Name: "link cut upwards", Faults: "the link is cut before or after the n-th PUBLISH up, or its PUBACK", Run: linkCutUp},
		{Name: "link cut downwards", Faults: "the link is cut before or after the n-th PUBLISH down, or its PUBACK", Run: linkCutDown},
		{Name: "link half open", Faults: "the link stays up and nothing passes, with messages in flight; ack_timeout 1 s", Run: linkHalfOpen},
		{Name: "link half open idle", Faults: "the same with nothing to send; keep_alive 1 s", Run: linkHalfOpenIdle},
		{Name: "link slow", Faults: "100 ms each way and 12 kB/s for a second or two, less than what is published", Run: linkSlow},
		{Name: "link torn", Faults: "the link is reset in the middle of a packet, in either direction", Run: linkTorn},
		{Name: "link 2 kB/s", Waits: true, Faults: "2 kB/s and 100 ms each way; among the messages the largest allowed, which takes longer than ack_timeout", Run: linkModem},
		{Name: "link asymmetric", Waits: true, Faults: "2 kB/s up and 64 kB/s down, then the reverse, with the largest messages allowed", Run: linkAsymmetric},
		{Name: "link 600 ms", Waits: true, Faults: "a round trip of 600 ms and 128 kB/s", Run: linkFar},
		{Name: "link 6 s", Waits: true, Faults: "a round trip of 6 s; keep_alive and ack_timeout as by default", Run: linkSpace},
		{Name: "link jitter", Waits: true, Faults: "every byte is 20 to 820 ms late", Run: linkJitter},
		{Name: "link hole up", Waits: true, Faults: "packets above 1,400 bytes vanish on the way up, and what is behind them on the connection; one message is larger; ack_timeout 1 s", Run: linkHoleUp},
		{Name: "link hole down", Waits: true, Faults: "the same on the way down, for some seconds", Run: linkHoleDown},
	}
}

func linkCut(w *World) {
	s := w.Open(SiteOptions{Things: 2})
	s.Load(Usual)
	for range breaks {
		s.Pause(s.Between(50*time.Millisecond, 200*time.Millisecond))
		s.Fault()
		s.Link.Cut()
		s.Pause(s.Between(0, 300*time.Millisecond))
		s.Link.Restore()
		s.Recovered()
	}
}

// point is a place in the protocol.
type point struct {
	flow   fleetsim.Flow
	packet fleetsim.Packet
	after  bool
}

// cutAt arms the link.
func (s *Site) cutAt(p point, n int) <-chan struct{} {
	if p.after {
		return s.Link.CutAfter(p.flow, p.packet, n)
	}
	return s.Link.CutBefore(p.flow, p.packet, n)
}

// reach waits until the fault has happened.
func (s *Site) reach(happened <-chan struct{}, what any) {
	s.Helper()
	select {
	case <-happened:
	case <-s.Context().Done():
		s.Fatalf("%v was never reached", what)
	}
}

func linkCutHandshake(w *World) {
	points := []point{
		{fleetsim.FromClient, fleetsim.CONNECT, false},
		{fleetsim.FromClient, fleetsim.CONNECT, true},
		{fleetsim.FromBroker, fleetsim.CONNACK, false},
		{fleetsim.FromBroker, fleetsim.CONNACK, true},
		{fleetsim.FromClient, fleetsim.SUBSCRIBE, false},
		{fleetsim.FromClient, fleetsim.SUBSCRIBE, true},
		{fleetsim.FromBroker, fleetsim.SUBACK, false},
		{fleetsim.FromBroker, fleetsim.SUBACK, true},
	}
	s := w.Open(SiteOptions{})
	s.Load(Usual)
	for _, i := range s.Random.Perm(len(points))[:breaks-1] {
		s.Pause(s.Between(50*time.Millisecond, 150*time.Millisecond))
		s.Fault()
		happened := s.cutAt(points[i], 1)
		s.Link.Drop()
		s.reach(happened, points[i])
		s.Link.Restore()
		s.Recovered()
	}
}

func linkCutUp(w *World) {
	cutUnderLoad(w, []point{
		{fleetsim.FromClient, fleetsim.PUBLISH, false},
		{fleetsim.FromClient, fleetsim.PUBLISH, true},
		{fleetsim.FromBroker, fleetsim.PUBACK, false},
		{fleetsim.FromBroker, fleetsim.PUBACK, true},
	})
}

func linkCutDown(w *World) {
	cutUnderLoad(w, []point{
		{fleetsim.FromBroker, fleetsim.PUBLISH, false},
		{fleetsim.FromBroker, fleetsim.PUBLISH, true},
		{fleetsim.FromClient, fleetsim.PUBACK, false},
		{fleetsim.FromClient, fleetsim.PUBACK, true},
	})
}

func cutUnderLoad(w *World, points []point) {
	s := w.Open(SiteOptions{})
	s.Load(Usual)
	for _, i := range s.Random.Perm(len(points))[:breaks] {
		s.Fault()
		s.reach(s.cutAt(points[i], 1+s.Random.IntN(40)), points[i])
		s.Link.Restore()
		s.Recovered()
	}
}

// quick makes the bridge notice silence soon.
func quick(c *gateway.Config) { c.MQTT.KeepAlive, c.MQTT.AckTimeout = time.Second, time.Second }

func linkHalfOpen(w *World) {
	s := w.Open(SiteOptions{Edit: func(c *gateway.Config) { quick(c); c.MQTT.KeepAlive = time.Minute }})
	s.Load(Usual)
	s.Pause(200 * time.Millisecond)
	s.Fault()
	began := time.Now()
	s.Link.BlackHole(true)
	s.NotReady(began, s.Config.MQTT.AckTimeout+slack)
	s.Link.BlackHole(false)
	s.Recovered()
}

// The broker's silence is noticed a keep-alive after a PINGREQ, which goes out after three quarters of
// one.
func linkHalfOpenIdle(w *World) {
	s := w.Open(SiteOptions{Edit: quick})
	s.Load(Load{Down: 50})
	s.Fault()
	began := time.Now()
	s.Link.BlackHole(true)
	s.NotReady(began, 2*s.Config.MQTT.KeepAlive+slack)
	s.Link.BlackHole(false)
	s.Recovered()
}

// slack is what a busy machine may be late.
const slack = 1500 * time.Millisecond

func linkSlow(w *World) {
	s := w.Open(SiteOptions{})
	s.Load(Usual)
	s.Fault()
	s.Link.Delay(100 * time.Millisecond)
	s.Link.Throttle(12_000)
	s.Pause(s.Between(time.Second, time.Duration(s.Pick(1200, 3000))*time.Millisecond))
	s.Link.Delay(0)
	s.Link.Throttle(0)
	s.Recovered()
}

func linkTorn(w *World) {
	s := w.Open(SiteOptions{})
	s.Load(Usual)
	for i := range breaks {
		s.Pause(s.Between(20*time.Millisecond, 200*time.Millisecond))
		s.Fault()
		before, began := s.Link.Accepted(), time.Now()
		s.Link.ResetMidPacket([]fleetsim.Flow{fleetsim.FromClient, fleetsim.FromBroker}[(i+int(s.Seed))%2])
		for s.Link.Accepted() == before {
			s.Pause(10 * time.Millisecond)
		}
		s.recovered(began)
	}
}
