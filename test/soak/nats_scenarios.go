package soak

import (
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
)

func natsScenarios() []Scenario {
	return []Scenario{
		{Name: "NATS cut", Common: true, Faults: "the link between the bridge and an external NATS server is cut for up to 0.3 s", Run: natsCut},
		{Name: "NATS cut and stop", Faults: "that link is cut while the cloud sends on, the broker repeats what was not acknowledged, and the bridge is stopped", Run: natsStop},
	}
}

// startNATS starts an external server, and the link that the bridge reaches it by.
func (s *Site) startNATS() {
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: s.TempDir(), NoSigs: true, NoLog: true})
	s.check(err)
	ns.Start()
	s.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(20 * time.Second) {
		s.Fatal("the NATS server is not ready")
	}
	s.natsURL = ns.ClientURL()
	s.NATSLink, err = fleetsim.NewLink(ns.Addr().String())
	s.check(err)
	s.Cleanup(func() { _ = s.NATSLink.Close() })
	s.Config.NATS.URL = gateway.NATSURL("nats://" + s.NATSLink.Addr())
}

// cutNATS cuts the bridge's link while something is on its way.
func (s *Site) cutNATS() {
	s.NATSLink.Delay(30 * time.Millisecond)
	s.Pause(100 * time.Millisecond)
	s.NATSLink.Cut()
	s.NATSLink.Delay(0)
}

// natsCut loses questions, answers and acknowledgements on their way; nobody knows which.
func natsCut(w *World) {
	s := w.Open(SiteOptions{NATS: true})
	s.Load(Usual)
	for range s.Pick(1, breaks) { // the bridge waits 5 s for an answer that does not come
		s.Pause(s.Between(50*time.Millisecond, 200*time.Millisecond))
		s.Fault()
		s.cutNATS()
		s.Pause(s.Between(0, 300*time.Millisecond))
		s.NATSLink.Restore()
		s.Recovered()
	}
}

// natsStop shows what the bridge has acknowledged to the broker without having it stored. Only deltas
// come down: their repetitions are known without asking the store, and are acknowledged at once if
// nothing keeps them behind what they repeat.
func natsStop(w *World) {
	s := w.Open(SiteOptions{NATS: true})
	s.Load(Load{Events: 90, Reports: 10, Responses: 20, Deltas: 200})
	for range s.Pick(1, breaks) {
		s.Pause(s.Between(50*time.Millisecond, 200*time.Millisecond))
		s.Fault()
		s.cutNATS()
		s.Pause(s.Between(50*time.Millisecond, 150*time.Millisecond))
		before := s.Link.Accepted()
		s.Link.Drop()
		for s.Link.Accepted() == before {
			s.Pause(10 * time.Millisecond)
		}
		s.Pause(s.Between(100*time.Millisecond, 200*time.Millisecond))
		s.check(s.Stop())
		s.NATSLink.Restore()
		began := time.Now()
		s.Start()
		s.recovered(began)
	}
}
