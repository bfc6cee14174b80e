package soak

import (
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"fleetbridge/bridge/fleetstest"
)

func refusalScenarios() []Scenario {
	return []Scenario{
		{"broker quota", "the broker answers a backlog, and every PUBLISH for a while, with 0x97 (quota exceeded)", brokerQuota},
		{"filter refused", "the broker refuses one of the filters, then grants it", brokerFilter},
		{"broker swallows", "the broker takes messages and never acknowledges them; ack_timeout 1 s", brokerSwallows},
		{"broker deaf", "the broker reads messages, does nothing with them and acknowledges nothing; ack_timeout 1 s", brokerDeaf},
	}
}

func brokerQuota(w *World) {
	s := w.Open(SiteOptions{})
	s.Load(Usual)
	for range s.Pick(1, 3) {
		s.Pause(s.Between(50*time.Millisecond, 100*time.Millisecond))
		s.Link.Cut() // for a backlog: more waits than is in flight
		s.Pause(s.Between(200*time.Millisecond, 300*time.Millisecond))
		s.Fault()
		refused := make(chan struct{})
		n := 0
		s.Wire.Set(func(p Packet) Verdict {
			if p.Flow != fleetstest.FromClient || p.Type != fleetstest.PUBLISH {
				return Verdict{}
			}
			if n++; n == 1 {
				close(refused)
			}
			return Verdict{Drop: true, Answer: puback(p.publish().PacketID, 0x97)}
		})
		s.Link.Restore()
		s.reach(refused, "the first refusal")
		s.Pause(s.Between(100*time.Millisecond, 600*time.Millisecond))
		s.Wire.Set(nil)
		s.Recovered()
	}
}

func brokerFilter(w *World) {
	s := w.Open(SiteOptions{})
	s.Load(Usual)
	s.Pause(100 * time.Millisecond)
	s.Fault()
	which := s.Random.IntN(13)
	s.Wire.Set(func(p Packet) Verdict {
		if p.Flow != fleetstest.FromBroker || p.Type != fleetstest.SUBACK {
			return Verdict{}
		}
		out := slices.Clone(p.Raw)
		at := len(out) - 1 // it asks again for the one that is missing
		if len(out) > 13 {
			at = len(out) - 13 + which
		}
		out[at] = 0x87
		return Verdict{Instead: out}
	})
	s.Link.Drop()
	s.waitReady(false, 10*time.Second)
	for len(s.Log.Warnings("refused subscriptions")) == 0 {
		s.Pause(10 * time.Millisecond)
	}
	if code, body := s.Get("/readyz"); code == http.StatusOK {
		s.Errorf("a filter is missing and /readyz answers %d %s", code, body)
	}
	s.Wire.Set(nil)
	s.Ready()
	s.Recovered()
}

func brokerSwallows(w *World) {
	stall(w, func(p Packet) bool { return p.Flow == fleetstest.FromBroker && p.Type == fleetstest.PUBACK })
}

func brokerDeaf(w *World) {
	stall(w, func(p Packet) bool { return p.Flow == fleetstest.FromClient && p.Type == fleetstest.PUBLISH })
}

// stall drops packets until the bridge has noticed that nothing flows.
func stall(w *World, drops func(Packet) bool) {
	s := w.Open(SiteOptions{Edit: quick})
	s.Load(Usual)
	s.Pause(200 * time.Millisecond)
	s.Fault()
	var dropped atomic.Int64
	began := time.Now()
	s.Wire.Set(func(p Packet) Verdict {
		if !drops(p) {
			return Verdict{}
		}
		dropped.Add(1)
		return Verdict{Drop: true}
	})
	s.NotReady(began, s.Config.MQTT.AckTimeout+slack)
	s.Wire.Set(nil)
	s.Recovered()
	if dropped.Load() == 0 {
		s.Error("nothing was dropped: the scenario shows nothing")
	}
}
