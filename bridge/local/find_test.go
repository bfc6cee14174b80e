package local

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

func TestMentions(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]bool{
		`{"clientToken":"x"}`: true, "{\"clientToken\" :\n \"x\"": true, `{"execution":{"jobId":"x"}}`: true, `{"executionId":"x"}`: true,
		`{"action":"x"}`: false, `{"x":"clientToken"}`: false, `{"clientToken":"xy"}`: false, `{"a":"x","clientToken":"x"}`: true, ``: false,
	} {
		if Mentions([]byte(payload), "x") != want {
			t.Errorf("%s: %t", payload, !want)
		}
	}
	if Mentions([]byte(`{"clientToken":""}`), "") {
		t.Error("no id is mentioned")
	}
}

func TestSameTrace(t *testing.T) {
	t.Parallel()
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	parent := "00-" + id + "-00f067aa0ba902b7-01"
	for other, want := range map[string]bool{parent: true, id: true, "00-" + id + "-aaaaaaaaaaaaaaaa-00": true, "00f067aa0ba902b7": false, "": false, "a-b-c-d": false} {
		if SameTrace(parent, other) != want {
			t.Errorf("%s: %t", other, !want)
		}
	}
	if SameTrace("", "") || SameTrace("nonsense", "nonsense") {
		t.Error("what is no traceparent has a trace")
	}
}

// A search finds what is stored under an id, whatever kind of id that is, and makes no consumer.
func TestFind(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	ctx := testContext(t)
	trace := bridge.Trace{Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	down := func(a mapping.Address, payload string, trace bridge.Trace) {
		t.Helper()
		send(t, func(ctx context.Context, done func(error)) error {
			return r.store.Down().Send(ctx, bridge.Message{Address: a, Payload: []byte(payload), Trace: trace}, done)
		})
		r.seen()
	}
	at := func(c mapping.Channel, id string) mapping.Address {
		return mapping.Address{Thing: "pump", Channel: c, ID: id}
	}
	down(at(mapping.CommandRequest, "run.1"), `{"action":"a"}`, bridge.Trace{})
	down(at(mapping.JobsNotifyNext, ""), `{"execution":{"jobId":"fw"}}`, trace)
	bury(t, r, upLetter(`{"clientToken":"mine"}`))
	put := func(b bridge.State, key, value string) {
		t.Helper()
		if err := b.Put(ctx, key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	put(r.store.Executions(), "open.pump.run=2E1", `{"id":"run.1","action":"a","deadline":"2026-01-02T03:04:05Z"}`+"\n{}")
	put(r.store.Executions(), "done.pump.run=2E2", `{"seq":7}`)
	put(r.store.Executions(), "done.pump.gone", `{"seq":7}`)
	if err := r.store.Executions().Delete(ctx, "done.pump.gone"); err != nil {
		t.Fatal(err)
	}
	put(r.store.Leases(), "pump.fw", `{"worker":"w1","executionNumber":1}`)
	m := nats.NewMsg("fleets.up.pump.jobs.fw.update")
	m.Data = []byte(`{"status":"IN_PROGRESS","clientToken":"tok"}`)
	m.Header.Set("Nats-Msg-Id", "my id")
	if _, err := r.nc.RequestMsgWithContext(ctx, m); err != nil {
		t.Fatal(err)
	}
	finder, err := NewFinder(r.nc, r.subjects)
	if err != nil {
		t.Fatal(err)
	}
	consumers := func() int {
		info, err := r.store.js.AccountInfo(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return info.Consumers
	}
	before := consumers()
	for id, want := range map[string][]string{
		"run.1": {"came command.request run.1", "open command.request run.1"},
		"run.2": {"answered command.request run.2"},
		"gone":  nil, "none": nil, "a": nil, "0": nil,
		"fw":  {"came jobs.notify-next ", "leased jobs.start-next fw", "waits job.update fw"},
		"tok": {"waits job.update fw"}, "my id": {"waits job.update fw"},
		"mine": {"dead shadow.report "}, "1": {"dead shadow.report "},
		trace.Parent: {"came jobs.notify-next "}, "4bf92f3577b34da6a3ce929d0e0e4736": {"came jobs.notify-next "},
	} {
		found, err := finder.Find(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range found.Found {
			got = append(got, fmt.Sprint(f.Place, " ", f.Address.Channel, " ", f.Address.ID))
			if f.Address.Thing != "pump" || f.At.IsZero() || (f.Stream == "" || f.Sequence == 0) && f.Place != PlaceOpen && f.Place != PlaceAnswered && f.Place != PlaceLeased {
				t.Errorf("%s: %+v", id, f)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) || len(found.Left) > 0 {
			t.Errorf("%s: got %q, want %q, left %q", id, got, want, found.Left)
		}
	}
	if after := consumers(); after != before {
		t.Errorf("%d consumers, before %d", after, before)
	}
}
