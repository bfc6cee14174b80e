package soak

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"fleetbridge/fleetsim"
)

func bridgeScenarios() []Scenario {
	return []Scenario{
		{Name: "bridge restart", Faults: "the bridge is stopped and started again and again, in order, under load", Run: bridgeRestart},
		{Name: "outage log", Faults: "the broker refuses every connection; the log says it once", Run: bridgeOutage},
		{Name: "poison", Faults: "every fifth message in a backlog, up and down, is no JSON", Run: bridgePoison},
		{Name: "Fleets API", Faults: "the Fleets HTTP API is down, slow, wrong, or answers 401 or 503", Run: fleetsAPI},
		{Name: "clock jumps", Common: true, Faults: "the clock jumps forwards and backwards, by seconds to weeks, while messages wait", Run: clockJumps},
	}
}

func bridgeRestart(w *World) {
	s := w.Open(SiteOptions{})
	s.Load(Usual)
	for range s.Pick(3, 10) {
		s.Pause(s.Between(20*time.Millisecond, 200*time.Millisecond))
		s.Fault()
		began := time.Now()
		s.check(s.Stop())
		if took := time.Since(began); took > 10*time.Second {
			s.Errorf("the stop took %v", took)
		}
		began = time.Now()
		s.Start()
		s.recovered(began)
	}
}

func bridgeOutage(w *World) {
	s := w.Open(SiteOptions{})
	s.Load(Load{Events: 50, Responses: 10, Down: 20})
	var attempts atomic.Int64
	s.Wire.Set(func(p Packet) Verdict {
		if p.Flow == fleetsim.FromClient && p.Type == fleetsim.CONNECT {
			attempts.Add(1)
			return Verdict{Drop: true, Close: true}
		}
		return Verdict{}
	})
	s.Fault()
	s.Wire.Drop()
	for attempts.Load() < int64(s.Pick(3, 5)) {
		s.Pause(20 * time.Millisecond)
	}
	if lines := s.Log.Warnings(""); len(lines) > 2 { // that it was lost, and that it cannot be made anew
		s.Errorf("after %d attempts the log has %d warnings:\n%s", attempts.Load(), len(lines), strings.Join(lines, "\n"))
	}
	s.Wire.Set(nil)
	s.Recovered()
}

func bridgePoison(w *World) {
	w.MayDie()
	s := w.Open(SiteOptions{})
	load := Usual
	load.Poison = 5
	s.Load(load)
	s.Pause(100 * time.Millisecond)
	s.Fault()
	s.Link.Cut()
	s.Pause(s.Between(400*time.Millisecond, 600*time.Millisecond))
	s.Link.Restore()
	s.Recovered()
	s.StopLoad()
	s.check(s.Ledger.Settled(s.Context()))
	if t := s.Ledger.Report().Total; t.Dead == 0 || t.Dead > t.In/5+len(s.Ledger.Report().Lanes) {
		s.Errorf("%+v", t)
	}
}

func fleetsAPI(w *World) {
	faults := []fleetsim.HTTPFault{
		{Down: true}, {Delay: 500 * time.Millisecond}, {Body: []byte(`{"version":`)}, {Body: []byte(`[]`)}, {Status: 401}, {Status: 503},
		{Delay: time.Minute}, // shadow messages wait for 10 s then
	}
	s := w.Open(SiteOptions{API: true})
	s.shadow(true)
	s.Load(Usual)
	for _, i := range s.Random.Perm(s.Pick(len(faults)-1, len(faults)))[:2] {
		s.Pause(100 * time.Millisecond)
		s.Fault()
		s.Sim.SetHTTPFault(&faults[i])
		s.Link.Drop()
		s.Recovered()
		s.desire(i)
	}
	s.Sim.SetHTTPFault(nil)
	s.Link.Drop()
	s.Recovered()
	s.shadow(true)
}

// desire has the cloud change a value and waits until programs hear of it.
func (s *Site) desire(value int) {
	s.Helper()
	thing := s.Config.Things[0].Name
	sub, err := s.nc.SubscribeSync("fleets.down." + thing + ".shadow.update.delta")
	s.check(err)
	s.check(s.nc.Flush())
	defer func() { _ = sub.Unsubscribe() }()
	_, err = s.Sim.PatchDesired(thing, fmt.Appendf(nil, `{"value":"%d-%d"}`, value, s.Seed))
	s.check(err)
	ctx, cancel := context.WithTimeout(s.Context(), 15*time.Second)
	defer cancel()
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			s.Fatalf("the delta does not come: %v", err)
		}
		if strings.Contains(string(m.Data), fmt.Sprintf(`"%d-%d"`, value, s.Seed)) {
			return
		}
	}
}

// shadow waits until the status says that the shadow is known, or is not.
func (s *Site) shadow(known bool) {
	for strings.Contains(s.Status(), `"shadow":"known"`) != known {
		s.Pause(20 * time.Millisecond)
	}
}
