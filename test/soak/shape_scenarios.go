package soak

import (
	"sync/atomic"
	"time"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

// modem is 2 kB/s: GPRS, NB-IoT, and a SIM whose volume is used up.
var modem = fleetsim.Shape{Rate: 2000, Delay: 100 * time.Millisecond}

// light is about half of what a modem carries.
var light = Load{Events: 4, Reports: 1, Responses: 1, Jobs: 1, Down: 2, Deltas: 1, Commands: true}

// largest makes one event, one response and one notification as large as they may be.
func (s *Site) largest(l Load) Load {
	thing, size := s.Config.Things[0].Name, int(s.Config.Limits.Payload)
	l.Size = func(lane string, n uint64) int {
		if n == 3 && (lane == downLane(thing) || lane == upLane(thing, []mapping.Kind{mapping.Events, mapping.Commands}[s.Seed%2])) {
			return size
		}
		return 0
	}
	return l
}

// scaled brings limits and patience to what a short round has time for: the largest payload still takes longer than
// ack_timeout at 2 kB/s, as it does with the defaults.
func scaled(w *World) func(*gateway.Config) {
	return func(c *gateway.Config) {
		if !w.Long {
			c.Limits.Payload, c.MQTT.AckTimeout, c.MQTT.KeepAlive = 16<<10, 6*time.Second, 6*time.Second
		}
	}
}

// shaped opens a site whose link has these shapes from its first byte, and lets a load flow over it.
func shaped(w *World, up, down fleetsim.Shape, edit func(*gateway.Config), load func(*Site) Load) *Site {
	s := w.Open(SiteOptions{Cut: true, Edit: edit, Broker: []string{"max_inflight_messages 200"}})
	up.Seed, down.Seed = s.Seed, s.Seed
	s.Link.Shape(fleetsim.FromClient, up)
	s.Link.Shape(fleetsim.FromBroker, down)
	l := load(s)
	s.Load(l)
	s.Fault()
	began := time.Now()
	s.Link.Restore()
	s.Ready()
	s.flowing(l)
	s.World.Recovered(time.Since(began))
	return s
}

func linkModem(w *World) {
	s := shaped(w, modem, modem, scaled(w), func(s *Site) Load { return s.largest(light) })
	s.pastLargest()
	s.Thrifty(thrift)
}

// pastLargest ends the load once the large messages are on their way, and waits until everything is through: behind
// 128 KiB at 2 kB/s waits a minute's load.
func (s *Site) pastLargest() {
	s.Helper()
	thing := s.Config.Things[0].Name
	for _, lane := range []string{upLane(thing, mapping.Events), upLane(thing, mapping.Commands), downLane(thing)} {
		for s.sent(lane) < 5 {
			s.Pause(20 * time.Millisecond)
		}
	}
	s.StopLoad()
	began := time.Now()
	s.check(s.Ledger.Settled(s.Context()))
	s.World.Recovered(time.Since(began))
}

// linkAsymmetric sends the largest message up while up is slow, and the largest down after that is turned round.
func linkAsymmetric(w *World) {
	wide := fleetsim.Shape{Rate: 64_000, Delay: 100 * time.Millisecond}
	var large atomic.Bool
	s := shaped(w, modem, wide, scaled(w), func(s *Site) Load {
		l := s.largest(light)
		up, down := l.Size, downLane(s.Config.Things[0].Name)
		l.Size = func(lane string, n uint64) int {
			if lane != down {
				return up(lane, n)
			}
			if large.CompareAndSwap(true, false) {
				return int(s.Config.Limits.Payload)
			}
			return 0
		}
		return l
	})
	s.Recovered()
	s.Fault()
	s.Link.Shape(fleetsim.FromClient, wide)
	s.Link.Shape(fleetsim.FromBroker, modem)
	large.Store(true)
	for large.Load() {
		s.Pause(20 * time.Millisecond)
	}
	s.pastLargest()
	s.Thrifty(thrift)
}

func linkFar(w *World) {
	far := fleetsim.Shape{Delay: 300 * time.Millisecond, Rate: 128_000}
	s := shaped(w, far, far, func(c *gateway.Config) { c.MQTT.AckTimeout, c.MQTT.KeepAlive = 3*time.Second, 3*time.Second }, func(s *Site) Load {
		return s.largest(Load{Events: 40, Reports: 10, Responses: 10, Jobs: 5, Down: 20, Deltas: 10, Commands: true})
	})
	s.Pause(time.Second)
	s.Recovered()
	s.Thrifty(thrift)
}

func linkSpace(w *World) {
	space := fleetsim.Shape{Delay: 3 * time.Second}
	s := shaped(w, space, space, nil, func(*Site) Load { return light })
	s.Thrifty(thrift)
}

func linkJitter(w *World) {
	shaky := fleetsim.Shape{Delay: 20 * time.Millisecond, Jitter: 800 * time.Millisecond}
	s := shaped(w, shaky, shaky, func(c *gateway.Config) { c.MQTT.AckTimeout, c.MQTT.KeepAlive = 3*time.Second, 3*time.Second }, func(*Site) Load {
		return Load{Events: 50, Reports: 10, Responses: 10, Jobs: 5, Down: 20, Deltas: 10, Commands: true}
	})
	s.Pause(time.Second)
	s.Recovered()
	s.Thrifty(thrift)
}

// tunnel is one whose segments have room for so many bytes.
const tunnel = 1400

// oversized is a payload that the tunnel loses.
const oversized = 3000

func linkHoleUp(w *World) {
	s := w.Open(SiteOptions{Edit: func(c *gateway.Config) { c.MQTT.AckTimeout = time.Second }})
	s.Link.Shape(fleetsim.FromClient, fleetsim.Shape{Hole: tunnel})
	thing := s.Config.Things[0].Name
	lane := upLane(thing, []mapping.Kind{mapping.Events, mapping.Commands}[s.Seed%2])
	l := Load{Events: 10, Reports: 2, Responses: 2, Jobs: 2}
	l.Size = func(of string, n uint64) int {
		if of == lane && n == 10 {
			return oversized
		}
		return 0
	}
	s.Fault()
	s.mustDie(lane, 10)
	s.Load(l)
	s.died()
	s.Recovered()
	s.Wire.bill.add(fleetsim.FromClient, oversized)
	s.Pause(20 * time.Second) // else three tries of one large message are half of all that is sent
	s.Thrifty(thrift)
}

func linkHoleDown(w *World) {
	s := w.Open(SiteOptions{Edit: quick})
	s.Link.Shape(fleetsim.FromBroker, fleetsim.Shape{Hole: tunnel})
	lane := downLane(s.Config.Things[0].Name)
	l := light
	l.Size = func(of string, n uint64) int {
		if of == lane && n == 5 {
			return oversized
		}
		return 0
	}
	began := time.Now()
	s.Load(l)
	s.Fault()
	s.NotReady(began, 30*time.Second)
	s.Pause(time.Duration(s.Pick(3, 20)) * time.Second)
	s.Link.Shape(fleetsim.FromBroker, fleetsim.Shape{})
	s.Recovered()
	s.Pause(time.Duration(s.Pick(10, 45)) * time.Second) // for the same reason
	s.Thrifty(thrift)
}
