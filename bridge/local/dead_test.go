package local

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/letters"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

func bury(t *testing.T, r *rig, l bridge.Letter) {
	t.Helper()
	send(t, func(ctx context.Context, done func(error)) error { return r.store.Bury(ctx, l, done) })
	r.seen()
}

func upLetter(payload string) bridge.Letter {
	return bridge.Letter{
		Message: bridge.Message{
			Address: mapping.Address{Thing: "pump", Channel: mapping.ShadowReport}, Payload: []byte(payload),
			Received: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Origin: "fleets.up.pump.shadow.update", Trace: bridge.Trace{Parent: "p", State: "s"},
		},
		Direction: mapping.Up,
		Rejection: &bridge.Rejection{Code: bridge.CodeSchema, Reason: "breaks the schema\r\nEvil: header", Details: []schemas.Detail{{Pointer: "/state/reported", Message: "must be an object"}}},
	}
}

func TestLetterUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	sub := r.subscribe("fleets.dead.>")
	bury(t, r, upLetter(`{"state": []}`))
	m, err := sub.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject != "fleets.dead.up.pump.shadow.update" || string(m.Data) != `{"state": []}` {
		t.Errorf("%s %s", m.Subject, m.Data)
	}
	wantHeaders(t, m.Header, map[string]string{
		"Fleets-Error-Code": "schema", "Fleets-Error": "breaks the schema  Evil: header; /state/reported: must be an object", "Fleets-Thing": "pump",
		"Fleets-Channel": "shadow.report", "Fleets-Topic": "$emqx/things/pump/shadow/update", "Fleets-Subject": "fleets.up.pump.shadow.update",
		"Fleets-Received": "2026-01-02T03:04:05.000000006Z", "traceparent": "p", "tracestate": "s", "Evil": "",
	})
}

func TestLetterDownAndStrays(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	sub := r.subscribe("fleets.dead.>")
	long := strings.Repeat("x.", 3000)
	for _, c := range []struct {
		letter  bridge.Letter
		subject string
		header  map[string]string
	}{
		{bridge.Letter{Direction: mapping.Down, Rejection: bridge.Rejectf(bridge.CodeJSON, "no JSON"), Message: bridge.Message{
			Address: mapping.Address{Thing: "pump", Channel: mapping.CommandRequest, ID: "e.1"}, Origin: "$emqx/commands/things/pump/executions/e.1/request"}},
			"fleets.dead.down.pump.commands.e=2E1.request",
			map[string]string{"Fleets-Error": "no JSON", "Fleets-Topic": "$emqx/commands/things/pump/executions/e.1/request", "Fleets-Subject": "", "Fleets-Channel": "command.request"}},
		{bridge.Letter{Direction: mapping.Down, Rejection: bridge.Rejectf(bridge.CodeUnexpected, ""), Message: bridge.Message{
			Address: mapping.Address{Thing: "pump"}, Origin: "$emqx/things/pump/a b/*", Stray: mapping.StrayTail("pump", "$emqx/things/pump/a b/*")}},
			"fleets.dead.down.pump.a=20b.=2A",
			map[string]string{"Fleets-Error": "no reason given", "Fleets-Topic": "$emqx/things/pump/a b/*", "Fleets-Channel": ""}},
		{bridge.Letter{Direction: mapping.Up, Rejection: bridge.Rejectf(bridge.CodeSubject, "no"), Message: bridge.Message{
			Origin: "fleets.up.pump.events.*.>", Stray: "pump.events.*.>"}},
			"fleets.dead.up.pump.events.=2A.=3E", map[string]string{"Fleets-Subject": "fleets.up.pump.events.*.>", "Fleets-Topic": "", "Fleets-Thing": "pump"}},
		{bridge.Letter{Direction: mapping.Down, Rejection: bridge.Rejectf(bridge.CodeUnexpected, "no"), Message: bridge.Message{
			Origin: "$emqx/things/pump 7/a", Stray: mapping.StrayTail("pump 7", "$emqx/things/pump 7/a")}},
			"fleets.dead.down.pump=207.a", map[string]string{"Fleets-Thing": "pump 7"}},
		{bridge.Letter{Direction: mapping.Up, Rejection: bridge.Rejectf(bridge.CodeSubject, "%s", strings.Repeat("ü", 2000)), Message: bridge.Message{
			Origin: "fleets.up." + long, Stray: strings.TrimSuffix(long, ".")}},
			"fleets.dead.up." + strings.Repeat("x.", 1024) + "=cut", map[string]string{"Fleets-Error": strings.Repeat("%C3%BC", 510) + "..."}},
		{bridge.Letter{Direction: mapping.Down, Rejection: bridge.Rejectf(bridge.CodeJSON, "no"), Message: bridge.Message{Address: mapping.Address{Thing: "pump"}}},
			"fleets.dead.down.pump.-", nil},
	} {
		bury(t, r, c.letter)
		m, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatal(c.subject, err)
		}
		if m.Subject != c.subject {
			t.Errorf("subject %s, want %s", m.Subject, c.subject)
		}
		wantHeaders(t, m.Header, c.header)
	}
}

func wantHeaders(t *testing.T, h nats.Header, want map[string]string) {
	t.Helper()
	for k, v := range want {
		if got := h.Get(k); got != v {
			t.Errorf("%s: %q, want %q", k, got, v)
		}
	}
}

func TestLargestPayloadIsBuriedWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	limit := int(r.nc.MaxPayload()) - wire.Headroom
	nc := r.program()
	r.publish(nc, "fleets.up.pump.events.x", strings.Repeat("x", limit))
	if answer := r.publish(nc, "fleets.up.pump.events.x", strings.Repeat("x", limit+1)); !strings.Contains(answer, "message size exceeds maximum allowed") {
		t.Errorf("answer %s", answer)
	}
	l := upLetter(strings.Repeat("x", limit))
	l.Origin, l.Trace = strings.Repeat("o", 4096), bridge.Trace{Parent: strings.Repeat("p", 2000), State: strings.Repeat("s", wire.MaxTrace)}
	l.Rejection = bridge.Rejectf(bridge.CodeTooLarge, "%s", strings.Repeat("e", 4096))
	bury(t, r, l)
	letter, err := r.store.DeadLetters().Get(testContext(t), 1)
	if err != nil || len(letter.Payload) != limit || letter.Truncated != 0 {
		t.Errorf("%d bytes, truncated %d, %v", len(letter.Payload), letter.Truncated, err)
	}
}

func TestTooLargeLetterIsCut(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	whole := int(r.nc.MaxPayload()) + 10
	bury(t, r, upLetter(strings.Repeat("x", whole)))
	d := r.store.DeadLetters()
	letter, err := d.Get(testContext(t), 1)
	if err != nil || len(letter.Payload) < whole-2000 || letter.Truncated != whole {
		t.Errorf("%d bytes, truncated %d, %v", len(letter.Payload), letter.Truncated, err)
	}
	if failed := d.Replay(testContext(t), 1); failed[1] == nil || !strings.Contains(failed[1].Error(), fmt.Sprintf("of its %d bytes", whole)) {
		t.Errorf("replay: %v", failed)
	}
}

// selected collects what a selection picks.
func selected(t *testing.T, d *letters.Letters, s letters.Selection) (out []letters.Letter) {
	t.Helper()
	if err := d.Each(testContext(t), s, func(l letters.Letter) error { out = append(out, l); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestListDeadLetters(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	nc := r.program()
	d, err := letters.New(nc, r.subjects)
	if err != nil {
		t.Fatal(err)
	}
	if all := selected(t, d, letters.Selection{}); len(all) != 0 {
		t.Errorf("%v", all)
	}
	for i := range 5 {
		bury(t, r, upLetter(strings.Repeat("x", i)))
	}
	bury(t, r, bridge.Letter{Direction: mapping.Down, Rejection: bridge.Rejectf(bridge.CodeJSON, "no JSON"), Message: bridge.Message{
		Address: mapping.Address{Thing: "pump 8", Channel: mapping.JobsNotify}, Origin: "topic"}})
	all := selected(t, d, letters.Selection{})
	if len(all) != 6 {
		t.Fatalf("%d letters", len(all))
	}
	for i, l := range all[:5] {
		if l.ID != uint64(i+1) || l.Size != i || l.Direction != mapping.Up || l.Thing != "pump" || l.Channel != "shadow.report" || l.Code != "schema" ||
			!strings.Contains(l.Error, "/state/reported") || l.Received.Year() != 2026 || l.Stored.IsZero() || l.Payload != nil {
			t.Errorf("%d: %+v", i, l)
		}
	}
	if l := all[5]; l.Direction != mapping.Down || l.Topic != "topic" {
		t.Errorf("%+v", l)
	}
	for _, c := range []struct {
		selection letters.Selection
		want      string // ids
	}{
		{letters.Selection{Thing: "pump 8"}, "[6]"}, {letters.Selection{Thing: "pump"}, "[1 2 3 4 5]"}, {letters.Selection{Thing: "nobody"}, "[]"},
		{letters.Selection{Code: "json"}, "[6]"}, {letters.Selection{Channel: "shadow.report", Limit: 2}, "[1 2]"}, {letters.Selection{Direction: "down"}, "[6]"},
		{letters.Selection{Direction: "up", Code: "json"}, "[]"}, {letters.Selection{Since: all[3].Stored}, "[4 5 6]"}, {letters.Selection{Since: all[5].Stored.Add(time.Hour)}, "[]"},
	} {
		ids := []uint64{}
		for _, l := range selected(t, d, c.selection) {
			ids = append(ids, l.ID)
		}
		if fmt.Sprint(ids) != c.want {
			t.Errorf("%+v: %v, want %s", c.selection, ids, c.want)
		}
	}
	info, err := r.store.js.Stream(testContext(t), "FLEETS_DEAD")
	if err != nil || info.CachedInfo().State.Consumers != 0 {
		t.Errorf("consumers left: %+v, %v", info.CachedInfo().State, err)
	}
}

// More letters than a page has, and some of them removed.
func TestManyDeadLetters(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	d := r.store.DeadLetters()
	const n = 2*500 + 7 // some pages
	stored := make(chan error, n)
	for range n {
		if err := r.store.Bury(testContext(t), upLetter("x"), func(err error) { stored <- err }); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
	}
	r.seen()
	if failed := d.Remove(testContext(t), 1, 2, n, n+1); len(failed) != 1 || !errors.Is(failed[n+1], letters.ErrNone) {
		t.Errorf("removed: %v", failed)
	}
	if failed := d.Remove(testContext(t), 1); !errors.Is(failed[1], letters.ErrNone) {
		t.Errorf("removed twice: %v", failed)
	}
	all := selected(t, d, letters.Selection{})
	if len(all) != n-3 || all[0].ID != 3 || all[len(all)-1].ID != n-1 {
		t.Errorf("%d letters, from %d to %d", len(all), all[0].ID, all[len(all)-1].ID)
	}
}

// A letter without the header was stored on its Thing's subject all the same.
func TestThingOfALetter(t *testing.T) {
	t.Parallel()
	for subject, want := range map[string]string{
		"fleets.dead.down.pump=207.a": "pump 7", "fleets.dead.up.pump.-": "pump", "fleets.dead.up.=2b.x": "", "fleets.dead.up.=cut": "", "fleets.dead.up.=2F.x": "",
	} {
		if l, err := letters.Parse(subjects(t), subject, nats.Header{}); err != nil || l.Thing != want {
			t.Errorf("%s: %q, %v, want %q", subject, l.Thing, err, want)
		}
	}
	if l, err := letters.Parse(subjects(t), "fleets.dead.up.pump.-", nats.Header{wire.HeaderThing: {"fan"}}); err != nil || l.Thing != "fan" {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestReplay(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	ctx := testContext(t)
	d := r.store.DeadLetters()
	sub := r.subscribe("fleets.down.>")
	bury(t, r, upLetter(`{"a": 1}`))
	bury(t, r, bridge.Letter{Direction: mapping.Down, Rejection: bridge.Rejectf(bridge.CodeJSON, "no JSON"), Message: bridge.Message{
		Address: mapping.Address{Thing: "pump", Channel: mapping.CommandRequest, ID: "e"}, Payload: []byte("x"), Origin: "$emqx/commands/things/pump/executions/e/request", Trace: bridge.Trace{Parent: "p"}}})
	bury(t, r, bridge.Letter{Direction: mapping.Down, Rejection: bridge.Rejectf(bridge.CodeUnexpected, "?"), Message: bridge.Message{
		Address: mapping.Address{Thing: "pump"}, Stray: "pump.a", Origin: "$emqx/things/pump/a"}})
	gone := upLetter(`{}`)
	gone.Address.Thing, gone.Origin = "valve", "fleets.up.valve.shadow.update"
	bury(t, r, gone)

	failed := d.Replay(ctx, 1, 2, 3, 4, 99, 0)
	if len(failed) != 4 || !errors.Is(failed[99], letters.ErrNone) || !errors.Is(failed[0], letters.ErrNone) ||
		!strings.Contains(failed[3].Error(), "no channel") || !strings.Contains(failed[4].Error(), "no stream takes it") {
		t.Errorf("failed %v", failed)
	}
	q, _ := r.run("pump", mapping.Shadow)
	if m := next(t, q); string(m.Payload) != `{"a": 1}` || m.Address.Channel != mapping.ShadowReport || m.Trace.Parent != "p" {
		t.Errorf("%+v", m)
	}
	m, err := sub.NextMsg(patience)
	if err != nil || m.Subject != "fleets.down.pump.commands.e.request" || string(m.Data) != "x" {
		t.Fatal(m, err)
	}
	if m.Header.Get(headerNumber) == "" {
		t.Error("what goes down again is no record of the journal")
	}
	wantHeaders(t, m.Header, map[string]string{"Fleets-Topic": "$emqx/commands/things/pump/executions/e/request", "Fleets-Channel": "command.request",
		"Fleets-Thing": "pump", "traceparent": "p", "Fleets-Error": "", "Fleets-Error-Code": ""})
	for id, there := range map[uint64]bool{1: false, 2: false, 3: true, 4: true} {
		if _, err := d.Get(ctx, id); (err == nil) != there {
			t.Errorf("letter %d: %v", id, err)
		}
	}
}

func TestDeadLettersWithoutABridge(t *testing.T) {
	t.Parallel()
	nc, err := nats.Connect(plainServer(t, true))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	d, err := letters.New(nc, subjects(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Each(testContext(t), letters.Selection{}, func(letters.Letter) error { return nil }); err == nil || !containsAll(err.Error(), []string{"FLEETS_DEAD", "nats.prefix fleets"}) {
		t.Errorf("error %v", err)
	}
	if failed := d.Replay(testContext(t), 1); failed[1] == nil {
		t.Error("replayed")
	}
}
