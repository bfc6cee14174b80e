//go:build !windows

package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local"
	"fleetbridge/bridge/local/letters"
	"fleetbridge/bridge/sightings"
	"fleetbridge/fleetsim"
	"fleetbridge/internal/explain"
	"fleetbridge/mapping"
)

// What became of a message is one sentence, from whatever is known.
func TestVerdict(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	event := mapping.Address{Thing: "pump-07", Channel: mapping.Event, ID: "hot"}
	request := mapping.Address{Thing: "pump-07", Channel: mapping.CommandRequest, ID: "x"}
	letter := func(a mapping.Address, code string) local.Found {
		return local.Found{Place: local.PlaceDead, At: ago(time.Minute), Sequence: 17, Address: a, Letter: letters.Letter{Reason: letters.Reason{Code: code, Error: "why"}}}
	}
	waits := local.Found{Place: local.PlaceWaits, At: ago(4 * time.Minute), Sequence: 5, Address: event}
	answered := local.Found{Place: local.PlaceAnswered, At: ago(3 * time.Hour), Address: request}
	open := local.Found{Place: local.PlaceOpen, At: ago(10 * time.Second), Address: request, Action: "turn", Deadline: now.Add(20*time.Second + time.Millisecond)}
	late := open
	late.Deadline = ago(2 * time.Minute)
	seen := func(o bridge.Outcome, direction string, channel mapping.Channel, payload string) *sightings.Record {
		return &sightings.Record{At: ago(30 * time.Second), Outcome: o, Direction: direction, Thing: "pump-07", Channel: string(channel), ID: "x", Payload: &payload, Sequence: 5, TookMS: 7}
	}
	refused := seen(bridge.Answered, "up", mapping.JobGet, "")
	refused.Code, refused.Reason = "504", "no answer"
	for _, c := range []struct {
		found []local.Found
		seen  []*sightings.Record
		want  string
	}{
		{nil, nil, "Not found: it does not wait and is no dead letter. What was delivered is not kept; while fleetbridge tail runs, trace knows that, too."},
		{[]local.Found{waits}, nil, "event hot of pump-07 waits for the cloud since 4 min: not connected."},
		{[]local.Found{letter(event, "schema"), waits}, nil, "event hot of pump-07 waits for the cloud since 4 min: not connected."},
		{[]local.Found{waits}, []*sightings.Record{seen(bridge.Delivered, "up", mapping.Event, "")}, "event x of pump-07 was delivered 30 s ago: the broker has it."},
		{[]local.Found{letter(event, "schema")}, nil, "Dead letter 17: schema: why; fleetbridge dead show 17 has the whole."},
		{[]local.Found{letter(event, "schema")}, []*sightings.Record{seen(bridge.Delivered, "up", mapping.Event, "")}, "event x of pump-07 was delivered 30 s ago: the broker has it."},
		{nil, []*sightings.Record{seen(bridge.Delivered, "down", mapping.JobsNotify, "")}, "jobs.notify x of pump-07 was delivered 30 s ago: programs can read it."},
		{nil, []*sightings.Record{seen(bridge.Duplicate, "down", mapping.ShadowDelta, "")}, "shadow.delta x of pump-07 was dropped 30 s ago as one that had come before."},
		{nil, []*sightings.Record{seen(bridge.Answered, "up", mapping.JobGet, "")}, "The request job.get x of pump-07 was answered 30 s ago, in 7ms."},
		{nil, []*sightings.Record{refused}, "The request job.get x of pump-07 was answered 30 s ago with error 504: no answer."},
		{[]local.Found{answered}, nil, "The command of pump-07 was answered, 3 h ago, and the broker has the answer."},
		{[]local.Found{answered}, []*sightings.Record{seen(bridge.Delivered, "up", mapping.CommandResponse, `{"status":"REJECTED","result":{"error":"no handler for turn"}}`)},
			"The command of pump-07 was answered REJECTED: no handler for turn, 3 h ago, and the broker has the answer."},
		{[]local.Found{answered, letter(request, "schema")}, nil, "The command of pump-07 was answered, 3 h ago; beside that there is dead letter 17: schema: why."},
		{[]local.Found{answered, letter(mapping.Address{Thing: "pump-07", Channel: mapping.CommandResponse, ID: "x"}, "refused")}, nil,
			"The command of pump-07 was answered, 3 h ago, but the broker did not take the answer: dead letter 17: refused: why."},
		{[]local.Found{open}, nil, "The command turn of pump-07 has waited 10 s for a program's answer; its time ends in 20 s."},
		{[]local.Found{late}, nil, "The command turn of pump-07 had no answer when its time ended, 2 min ago."},
		{[]local.Found{{Place: local.PlaceLeased, At: ago(72 * time.Hour), Address: mapping.Address{Thing: "pump-07"}, Worker: "w"}}, nil, "Job ID of pump-07 is leased to worker w since 3 days."},
		{[]local.Found{{Place: local.PlaceCame, At: ago(time.Second), Address: request, Stream: "FLEETS_DOWN", Sequence: 3}}, nil,
			"command.request x of pump-07 came from the cloud 1 s ago; programs can read it as FLEETS_DOWN 3."},
		{nil, []*sightings.Record{seen(bridge.Called, "down", mapping.CommandRequest, "")}, "ID was seen last 30 s ago: called."},
	} {
		v := &explain.Verdict{ID: "ID", Now: now, Search: local.Search{Found: c.found}, Seen: c.seen, Why: func(mapping.Thing) string { return "not connected" }}
		got, found := v.Sentence()
		if got != c.want || found != (len(c.found)+len(c.seen) > 0) {
			t.Errorf("got\n%s\nwant\n%s", got, c.want)
		}
	}
}

// A message is followed while it waits, when it is dead, and when it was seen to be delivered.
func TestTrace(t *testing.T) {
	t.Parallel()
	sim := fleetsim.Start(t, fleetsim.Options{Things: []string{"pump-07"}})
	link, err := fleetsim.NewLink(sim.BrokerURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = link.Close() })
	link.Cut()
	dir := t.TempDir()
	address := fleetsim.Address(t)
	file := filepath.Join(dir, "fleetbridge.yaml")
	put(t, file, "mqtt: {server: \""+link.URL()+"\"}\nthings: [{name: pump-07}]\nnats: {embedded: {listen: \""+address+"\", store_dir: data}}\nhttp: {listen: \"\"}\n"+
		"local: {users: [{name: hvac, password: secret-0815, things: [pump-07]}]}\n")
	gw, cfg := runs(t, file)
	nc, err := nats.Connect(gw.NATSURL(), nats.UserInfo("hvac", "secret-0815"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	watched := make(chan string, 100)
	go func() {
		_ = sightings.Follow(t.Context(), cfg.NATS.Embedded.StoreDir, sightings.Filter{}, func(l sightings.Line) error {
			if l.Record != nil {
				watched <- string(l.Outcome) + " " + l.Channel
			}
			if l.Hello != "" {
				watched <- "begun"
			}
			return nil
		})
	}()
	until := func(want string) {
		t.Helper()
		for late := time.After(patience); ; {
			select {
			case got := <-watched:
				if got == want {
					return
				}
			case <-late:
				t.Fatalf("%s was not seen", want)
			}
		}
	}
	until("begun")
	trace := func(id string, want ...string) {
		t.Helper()
		got := invoke(t, []string{"trace", id, "--config", file}, "")
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %q in\n%s", id, w, got)
			}
		}
	}
	publish := func(subject, payload, parent string) {
		t.Helper()
		m := nats.NewMsg(subject)
		m.Data = []byte(payload)
		m.Header.Set("traceparent", parent)
		if _, err := nc.RequestMsg(m, patience); err != nil {
			t.Fatal(err)
		}
	}
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	trace(parent, "Not found", "[1]\n")
	publish("fleets.up.pump-07.events.hot", `{"eventType":"hot","severity":"info"}`, parent)
	trace(parent, "pump-07", "event hot", "waits for the cloud since", "not connected")
	publish("fleets.up.pump-07.events.hot", `{"eventType":"hot"}`, strings.Replace(parent, "4b", "4c", 1))
	until("dead event")
	trace(strings.Replace(parent, "4b", "4c", 1), "dead letter, schema", "Dead letter 1: schema: /severity")
	trace("1", "Dead letter 1: schema")
	link.Restore()
	until("delivered event")
	trace(parent, "delivered in", "event hot of pump-07 was delivered", "the broker has it.")
	id, err := sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: "dance", TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	until("decided command.response")
	until("delivered command.response")
	trace(id, "came from the cloud, FLEETS_DOWN", "called dance", "The command of pump-07 was answered REJECTED: no handler for dance")
}
