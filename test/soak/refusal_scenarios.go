package soak

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

func refusalScenarios() []Scenario {
	return []Scenario{
		{Name: "broker quota", Faults: "the broker answers a backlog, and every PUBLISH for a while, with 0x97 (quota exceeded)", Run: brokerQuota},
		{Name: "filter refused", Faults: "the broker refuses one of the filters, then grants it", Run: brokerFilter},
		{Name: "broker swallows", Faults: "the broker takes messages and never acknowledges them; ack_timeout 1 s", Run: brokerSwallows},
		{Name: "broker deaf", Faults: "the broker reads messages, does nothing with them and acknowledges nothing; ack_timeout 1 s", Run: brokerDeaf},
		{Name: "kind refused", Waits: true, Faults: "the broker refuses one kind of message after another with 0x87, as by a slip in its rules, then grants it", Run: kindRefused},
		{Name: "message hung up over", Waits: true, Faults: "the broker closes the connection over one message each time, without a word or with a DISCONNECT", Run: messageHungUp},
		{Name: "message never acknowledged", Waits: true, Faults: "the broker acknowledges all messages but one; ack_timeout 1 s", Run: messageSwallowed},
		{Name: "message refused", Waits: true, Faults: "the broker refuses one message with a PUBACK, whose code may mean that it passes", Run: messageRefused},
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
			if p.Flow != fleetsim.FromClient || p.Type != fleetsim.PUBLISH {
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
		if p.Flow != fleetsim.FromBroker || p.Type != fleetsim.SUBACK {
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
	stall(w, func(p Packet) bool { return p.Flow == fleetsim.FromBroker && p.Type == fleetsim.PUBACK })
}

func brokerDeaf(w *World) {
	stall(w, func(p Packet) bool { return p.Flow == fleetsim.FromClient && p.Type == fleetsim.PUBLISH })
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

// upward finds what a bridge publishes.
func (p Packet) upward() (a mapping.Address, lane string, n uint64, ok bool) {
	if p.Flow != fleetsim.FromClient || p.Type != fleetsim.PUBLISH {
		return a, "", 0, false
	}
	m := p.publish()
	a, err := mapping.ParseTopic(mapping.Up, m.Topic)
	if err != nil {
		return a, "", 0, false
	}
	lane, n, ok = number(a, m.Payload)
	return a, lane, n, ok
}

// kindRefused shows that the others go on meanwhile, that it is said, and that nothing of the kind dies.
func kindRefused(w *World) {
	s := w.Open(SiteOptions{})
	s.Load(Load{Events: 50, Reports: 20, Responses: 20, Jobs: 10, Down: 20, Deltas: 10, Commands: true})
	thing := s.Config.Things[0].Name
	for i := range s.Pick(2, len(mapping.Kinds)) {
		kind := mapping.Kinds[(int(s.Seed)*2+1+i)%len(mapping.Kinds)]
		s.Fault()
		var refused atomic.Int64 // when the last was
		s.Wire.Set(func(p Packet) Verdict {
			if a, _, _, ok := p.upward(); !ok || a.Route().Kind != kind {
				return Verdict{}
			}
			refused.Store(time.Now().UnixNano())
			return Verdict{Drop: true, Answer: puback(p.publish().PacketID, 0x87)}
		})
		s.waitReady(false, 30*time.Second)
		if _, body := s.Get("/readyz"); !strings.Contains(body, kind.String()) {
			s.Errorf("%v are refused and /readyz says %s", kind, body)
		}
		for _, other := range mapping.Kinds {
			if other != kind {
				s.goesOn(upLane(thing, other))
			}
		}
		s.Pause(s.Between(0, time.Second))
		// A rule that is mended in the middle of a flight, of which a broker makes a moment and a laden machine does not,
		// brings the order to nought.
		for time.Since(time.Unix(0, refused.Load())) < 100*time.Millisecond {
			s.Pause(10 * time.Millisecond)
		}
		s.Wire.Set(nil)
		s.Recovered()
	}
}

// goesOn waits until something that was not there yet comes through a lane.
func (s *Site) goesOn(lane string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 30*time.Second)
	defer cancel()
	want := s.sent(lane) + 1
	if err := s.arrivals.wait(ctx, func() bool { return s.arrivals.highest[lane] >= want }); err != nil {
		s.Errorf("%s stands still, too", lane)
	}
}

// poisoned lets a load flow of which one message is poison to the broker, and waits until that is found out.
func poisoned(w *World, kind mapping.Kind, what Verdict, code byte) {
	s := w.Open(SiteOptions{Edit: func(c *gateway.Config) {
		c.MQTT.AckTimeout = time.Second
		c.Shadow.Report = "as_sent" // a merged report takes the next one's number when it is tried again behind it
	}})
	lane, poison := upLane(s.Config.Things[0].Name, kind), uint64(10+s.Random.IntN(10))
	met := make(chan struct{})
	tries := 0
	s.Wire.Set(func(p Packet) Verdict {
		if _, in, n, ok := p.upward(); !ok || in != lane || n != poison {
			return Verdict{}
		}
		if tries++; tries == 1 {
			close(met)
		}
		v := what
		if code != 0 {
			v.Answer = puback(p.publish().PacketID, code)
		}
		return v
	})
	s.mustDie(lane, poison)
	s.Load(Load{Events: 6, Reports: 3, Responses: 3, Jobs: 3, Down: 4, Deltas: 2, Commands: true})
	s.reach(met, "the message")
	s.Fault()
	s.died()
	s.Recovered()
}

func (w *World) anyKind() mapping.Kind { return mapping.Kinds[w.Random.IntN(len(mapping.Kinds))] }

func messageHungUp(w *World) {
	words := [][]byte{disconnect(0x83), disconnect(0x95), disconnect(0x82), disconnect(0x80)}
	if w.Long { // without a word it takes minutes
		words = append(words, nil)
	}
	poisoned(w, w.anyKind(), Verdict{Drop: true, Answer: words[(w.Seed+uint64(len(words))-1)%uint64(len(words))], Close: true}, 0)
}

func messageSwallowed(w *World) { poisoned(w, w.anyKind(), Verdict{Drop: true}, 0) }

func messageRefused(w *World) {
	codes := []byte{0x83, 0x80, 0x87, 0x99, 0x97}
	poisoned(w, w.anyKind(), Verdict{Drop: true}, codes[(w.Seed+uint64(len(codes))-1)%uint64(len(codes))])
}
