package soak

import (
	"context"
	"encoding/binary"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
)

func brokerScenarios() []Scenario {
	return []Scenario{
		{Name: "broker restart", Common: true, Faults: "the broker is restarted and keeps its sessions", Run: brokerRestart},
		{Name: "broker killed", Faults: "the broker is killed and starts with no session; messages up only, as the broker itself loses those down", Run: brokerKilled},
		{Name: "takeover", Faults: "another client connects with the Thing's client id, acknowledges nothing, and leaves; with -soak DISCONNECT 0x8E too, after which the bridge stays away for half a minute", Run: brokerTakeover},
		{Name: "broker overruns", Faults: "the broker sends more than the Receive Maximum of 8, a backlog at once", Run: brokerOverrun},
		{Name: "broker redirects", Faults: "the broker refuses with CONNACK 0x9C or 0x9D and a server reference, then not", Run: brokerRedirect},
		{Name: "broker disconnects", Faults: "the broker sends DISCONNECT with one after the other of its reason codes (but for 0x8E)", Run: brokerDisconnect},
		{Name: "broker unreachable", Faults: "the bridge is started, and restarted, while the broker cannot be reached", Run: brokerUnreachable},
	}
}

func brokerRestart(w *World) {
	s := w.Open(SiteOptions{})
	s.Load(Usual)
	for range s.Pick(1, 2) {
		s.Pause(s.Between(100*time.Millisecond, 300*time.Millisecond))
		s.Fault()
		s.check(s.Mosquitto.Stop(s.Context()))
		s.Pause(s.Between(0, 300*time.Millisecond))
		s.check(s.Mosquitto.Start(s.Context()))
		s.Recovered()
	}
}

func brokerKilled(w *World) {
	s := w.Open(SiteOptions{Forgetful: true})
	s.Load(Usual)
	for range s.Pick(2, breaks) {
		s.Pause(s.Between(100*time.Millisecond, 300*time.Millisecond))
		s.Fault()
		s.check(s.Mosquitto.Kill())
		s.Pause(s.Between(0, 200*time.Millisecond))
		s.check(s.Mosquitto.Start(s.Context()))
		s.Recovered()
	}
}

func brokerTakeover(w *World) {
	s := w.Open(SiteOptions{})
	s.Load(Usual)
	for range 2 {
		s.Pause(s.Between(100*time.Millisecond, 200*time.Millisecond))
		s.Fault()
		s.takeOver(s.Config.Things[0].ClientID, s.Between(0, 100*time.Millisecond))
		s.Recovered()
	}
	if s.Long && s.Seed%4 == 0 { // the bridge stays away for half a minute and more
		s.Fault()
		s.Wire.Say(disconnect(0x8E))
		s.Recovered()
	}
}

// takeOver is another client with the same client id.
func (s *Site) takeOver(id string, stay time.Duration) {
	s.Helper()
	u, err := url.Parse(s.Mosquitto.URL())
	s.check(err)
	ctx, cancel := context.WithTimeout(s.Context(), 5*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	s.check(err)
	p := paho.NewClient(paho.ClientConfig{Conn: conn, EnableManualAcknowledgment: true, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(paho.PublishReceived) (bool, error) { return true, nil },
	}})
	expiry := uint32(3600)
	_, err = p.Connect(ctx, &paho.Connect{ClientID: id, KeepAlive: 30, Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry}})
	s.check(err)
	select {
	case <-time.After(stay):
	case <-p.Done(): // the bridge was quicker
	}
	_ = p.Disconnect(&paho.Disconnect{})
}

func brokerOverrun(w *World) {
	const most = 8
	s := w.Open(SiteOptions{
		Broker: []string{"max_inflight_messages 0"},
		Cut:    true,
		Edit:   func(c *gateway.Config) { c.MQTT.ReceiveMaximum = most },
	})
	unacked, worst := map[uint16]bool{}, 0
	s.Wire.Set(func(p Packet) Verdict {
		switch {
		case p.Flow == fleetsim.FromClient && p.Type == fleetsim.CONNECT:
			clear(unacked)
			if changed, err := withReceiveMaximum(p.Raw, 65535); err == nil {
				return Verdict{Instead: changed}
			}
		case p.Flow == fleetsim.FromBroker && p.Type == fleetsim.PUBLISH:
			unacked[p.publish().PacketID] = true
			worst = max(worst, len(unacked))
		case p.Flow == fleetsim.FromClient && p.Type == fleetsim.PUBACK:
			delete(unacked, binary.BigEndian.Uint16(p.Raw[2:]))
		}
		return Verdict{}
	})
	s.Link.Restore()
	s.Ready()
	s.Load(Load{Events: 90, Reports: 10, Down: 400})
	for range 2 {
		s.Pause(100 * time.Millisecond)
		s.Link.Cut()
		s.Pause(300 * time.Millisecond)
		s.Fault()
		s.Link.Restore()
		s.Recovered()
	}
	s.Wire.Set(nil)
	if worst <= most {
		s.Errorf("the broker had at most %d messages under way: the scenario shows nothing", worst)
	}
}

func brokerRedirect(w *World) {
	s := w.Open(SiteOptions{Cut: true})
	refusals := 0
	done := make(chan struct{})
	s.Wire.Set(func(p Packet) Verdict {
		if p.Flow != fleetsim.FromClient || p.Type != fleetsim.CONNECT || refusals == 2 {
			return Verdict{}
		}
		s.Fault()
		if refusals++; refusals == 2 {
			close(done)
		}
		return Verdict{Drop: true, Answer: connack(byte(0x9B+refusals), "other.example.com:8883"), Close: true}
	})
	s.Load(Usual)
	s.Link.Restore()
	s.reach(done, "the second refusal")
	for !strings.Contains(s.Status(), "other.example.com:8883") {
		s.Pause(10 * time.Millisecond)
	}
	s.Recovered()
}

// disconnectCodes are those that a server may send, without 0x8E.
var disconnectCodes = []byte{
	0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
	0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
}

func brokerDisconnect(w *World) {
	w.MayDie() // a message that alone is in flight when the broker twice complains of one is given up
	s := w.Open(SiteOptions{})
	s.Load(Usual)
	for i := range breaks {
		s.Pause(s.Between(50*time.Millisecond, 150*time.Millisecond))
		s.Fault()
		code := disconnectCodes[(int(s.Seed)*breaks+i)%len(disconnectCodes)]
		before, began := s.Link.Accepted(), time.Now()
		s.Wire.Say(disconnect(code))
		for s.Link.Accepted() == before {
			s.Pause(10 * time.Millisecond)
		}
		s.recovered(began)
	}
}

func brokerUnreachable(w *World) {
	s := w.Open(SiteOptions{Cut: true, Things: 2})
	s.Load(Usual)
	s.Fault()
	s.Pause(200 * time.Millisecond)
	s.check(s.Stop())
	s.Start()
	s.Pause(s.Between(100*time.Millisecond, 300*time.Millisecond))
	s.Link.Restore()
	s.Recovered()
	told := map[string]int{}
	for _, line := range s.Log.Warnings("cannot connect") {
		_, what, _ := strings.Cut(line, "msg=")
		if told[what]++; told[what] > 2 { // each life tells a reason once
			s.Errorf("the log says it again and again: %s", line)
		}
	}
}
