package gateway_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

// routes is the contract's subject table, one payload a row, chosen so that any re-encoding shows: odd
// spacing, an escape, and, where the schema has room for one, a number of 20 digits.
var routes = []struct {
	channel mapping.Channel
	id      string
	payload string
}{
	{mapping.ShadowReport, "", `{ "state" : {"reported":{"n":12345678901234567890,"s":"gr\u00fcn"}}, "clientToken":"a" }`},
	{mapping.ShadowDesired, "", `{ "state":{"desired":{"n":12345678901234567890,"s":"gr\u00fcn"}} , "version":900001,"clientToken":"T"}`},
	{mapping.ShadowDelta, "", `{ "version":900001,"timestamp":1780000000,"state":{"n":12345678901234567890,"f":1.50,"s":"gr\u00fcn"},"metadata":{"n":{"timestamp":1780000000}}}`},
	{mapping.Event, "dryRun", `{ "eventType":"dryRun","severity":"error","data":{"p":0.20,"n":12345678901234567890,"s":"gr\u00fcn"},"timestamp":1780000000123}`},
	{mapping.Event, "a.b c", `{"eventType":"a\u002eb c" , "severity":"info","data":{"n":12345678901234567890},"timestamp":1780000000124}`},
	{mapping.CommandRequest, "7f0c", `{ "commandId":"c","action":"purge","params":{"n":12345678901234567890,"s":"gr\u00fcn"} }`},
	{mapping.CommandResponse, "other-1", `{ "status":"FAILED","result":{"error":"gr\u00fcn","n":12345678901234567890}}`},
	{mapping.JobsNotify, "", `{ "jobs":{"QUEUED":[{"jobId":"a3c1","queuedAt":1780000000000,"versionNumber":1,"n":12345678901234567890,"s":"gr\u00fcn"}]},"timestamp":1780000000000}`},
	{mapping.JobsNotifyNext, "", `{ "execution":{"jobId":"a3c1","jobDocument":{"n":12345678901234567890,"s":"gr\u00fcn"}},"timestamp":1780000000000}`},
	{mapping.JobsGet, "", `{ "thingName":"pump-07" , "clientToken":"req\u002d1"}`},
	{mapping.JobsGetAccepted, "", `{ "inProgressJobs":[],"queuedJobs":null,"clientToken":"x","n":12345678901234567890,"s":"gr\u00fcn"}`},
	{mapping.JobsGetRejected, "", `{ "code":"InternalError","message":"gr\u00fcn","clientToken":"x","n":12345678901234567890}`},
	{mapping.JobsStartNext, "", `{ "thingName":"pump-07","statusDetails":{"p":"gr\u00fcn","n":12345678901234567890},"stepTimeoutInMinutes":60,"clientToken":"req-2"}`},
	{mapping.JobsStartNextAccepted, "", `{ "execution":{"jobId":"a3c1","jobDocument":{"n":12345678901234567890,"s":"gr\u00fcn"},"executionNumber":1780000000000123},"clientToken":"x"}`},
	{mapping.JobsStartNextRejected, "", `{ "code":"RequestThrottled","message":"gr\u00fcn","clientToken":"x","n":12345678901234567890}`},
	{mapping.JobGet, "a3c1", `{ "thingName":"pump-07","clientToken":"req\u002d3"}`},
	{mapping.JobGetAccepted, "a3c1", `{ "execution":{"jobId":"a3c1","statusDetails":{"n":12345678901234567890,"s":"gr\u00fcn"}},"clientToken":"x"}`},
	{mapping.JobGetRejected, "a3c1", `{ "code":"ResourceNotFound","message":"gr\u00fcn","clientToken":"x","n":12345678901234567890}`},
	{mapping.JobUpdate, "a3c1", `{ "thingName":"pump-07","status":"SUCCEEDED","statusDetails":{"p":0.10,"n":12345678901234567890,"s":"gr\u00fcn"},"expectedVersion":1,"clientToken":"req-4"}`},
	{mapping.JobUpdateAccepted, "a3c1", `{ "clientToken":"x","timestamp":1780000000000,"n":12345678901234567890,"s":"gr\u00fcn"}`},
	{mapping.JobUpdateRejected, "a3c1", `{ "code":"VersionMismatch","executionState":{"status":"SUCCEEDED","versionNumber":3,"statusDetails":{"n":12345678901234567890,"s":"gr\u00fcn"}},"clientToken":"x"}`},
}

// fixed are the channels whose members are all strings that the protocol names.
var fixed = []mapping.Channel{mapping.JobsGet, mapping.JobGet}

// Every row of the contract's table, both ways: the right place, QoS 1, no retain, the same bytes.
func TestEveryRoute(t *testing.T) {
	t.Parallel() // it waits more than it works
	// What the simulator answers to one Thing must not mix with what is published to the other.
	s := open(t, things("pump-07", "valve 1"))
	covered := map[mapping.Channel]bool{}
	subjects, err := mapping.NewSubjects("fleets")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range routes {
		covered[w.channel] = true
		if !strings.Contains(w.payload, `\u00`) || !strings.Contains(w.payload, " ") ||
			!slices.Contains(fixed, w.channel) && !strings.Contains(w.payload, "12345678901234567890") {
			t.Errorf("%s would survive a re-encoding: %s", w.channel, w.payload)
		}
		a := mapping.Address{Thing: "pump-07", Channel: w.channel, ID: w.id}
		if a.Route().Direction == mapping.Down {
			a.Thing = "valve 1"
		}
		t.Run(string(w.channel), func(t *testing.T) {
			s := &site{t: t, sim: s.sim, nc: s.nc, js: s.js}
			if a.Route().Direction == mapping.Up {
				s.publish(subjects.Print(mapping.SpaceUp, a), w.payload)
				if p := s.arrives(a.Topic(), w.payload); p.QoS != 1 || p.Retain {
					t.Errorf("QoS %d, retain %v", p.QoS, p.Retain)
				}
				return
			}
			subject := subjects.Print(mapping.SpaceDown, a)
			sub := s.subscribe(subject)
			before := time.Now().Add(-time.Second)
			s.down(a.Topic(), w.payload, fleetsim.PublishOptions{})
			m := s.next(sub)
			if string(m.Data) != w.payload || m.Reply != "" {
				t.Errorf("got %s, reply subject %q", m.Data, m.Reply)
			}
			for name, want := range map[string]string{"Fleets-Thing": "valve 1", "Fleets-Channel": string(w.channel), "Fleets-Topic": a.Topic()} {
				if got := m.Header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if at, err := time.Parse(time.RFC3339, m.Header.Get("Fleets-Received")); err != nil || at.Before(before) || at.After(time.Now().Add(time.Second)) {
				t.Errorf("Fleets-Received %q: %v", m.Header.Get("Fleets-Received"), err)
			}
			s.replays(subject, w.payload)
		})
	}
	for _, r := range mapping.Routes() {
		if !covered[r.Channel] {
			t.Errorf("channel %s is not tested", r.Channel)
		}
	}
}

// replays reads the last message of a subject as a program does that comes late.
func (s *site) replays(subject, payload string) {
	s.t.Helper()
	c, err := s.js.OrderedConsumer(s.context(), "FLEETS_DOWN", jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject}, DeliverPolicy: jetstream.DeliverLastPolicy})
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := c.Next(jetstream.FetchMaxWait(patience))
	if err != nil || string(m.Data()) != payload {
		s.t.Errorf("replay of %s: %v, %v", subject, m, err)
	}
}
