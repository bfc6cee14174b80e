package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// both deciders of one Thing, on fakes.
type deciders struct {
	up      *Upward
	down    *Downward
	station *station
	archive archive
	resyncs int
}

func newDeciders(t *testing.T) *deciders {
	t.Helper()
	d := &deciders{archive: archive{}}
	d.station = newStation(t, rejecting, func(context.Context, Call) (Reply, error) { return Reply{}, nil })
	shadow := newShadow(t, newMemory(), d.archive)
	clock, err := LoadEventClock(t.Context(), pump07, newMemory())
	if err != nil {
		t.Fatal(err)
	}
	d.up = &Upward{Catalog: catalog(t), MaxBytes: 128 << 10, MaxAge: 168 * time.Hour, Shadow: shadow, Events: clock,
		Executions: d.station.Executions, Leases: NewLeases(pump07, newMemory()), Now: time.Now, Log: quiet()}
	d.down = &Downward{Catalog: d.up.Catalog, Shadow: shadow, Exchange: NewExchange(pump07, &sink{}, "test"),
		Executions: d.station.Executions, Commands: d.station.Commands, Archive: d.archive, Resync: func() { d.resyncs++ }, Now: time.Now}
	return d
}

// fate says in a word what a decision is: the forwarded payload, an outcome, or a rejection's code.
func fate(d Decision, err error) string {
	rejection := (*Rejection)(nil)
	switch {
	case errors.As(err, &rejection):
		return "dead " + string(rejection.Code)
	case err != nil:
		return "error " + err.Error()
	case d.Forward:
		return string(d.Message.Payload)
	default:
		return string(d.Outcome)
	}
}

// The inputs of protocol.md, section 8, that concern decisions; "same" is forwarded byte for byte.
func TestDownwardFixtures(t *testing.T) {
	for _, c := range []struct {
		name    string
		channel mapping.Channel
		id      string
		payload string
		want    string
	}{
		{"desired push", mapping.ShadowDesired, "", `{"state":{"desired":{"a":1}},"version":3}`, "same"},
		{"T1 T3 own report looped back", mapping.ShadowDesired, "", `{"state":{"reported":{"a":1}},"clientToken":"x"}`, "duplicate"},
		{"desired and reported: desired only", mapping.ShadowDesired, "", `{"state":{"desired":{"a":1},"reported":{"a":0}},"version":4}`, `{"state":{"desired":{"a":1}},"version":4}`},
		{"A26 desired null", mapping.ShadowDesired, "", `{"state":{"desired":null},"version":5}`, "same"},
		{"A26 desired {}", mapping.ShadowDesired, "", `{"state":{"desired":{}},"version":5}`, "same"},
		{"A26 empty delta", mapping.ShadowDelta, "", `{"version":5,"timestamp":1780000000,"state":{}}`, "same"},
		{"A5 delta without metadata, ms", mapping.ShadowDelta, "", `{"version":5,"timestamp":1780000000000,"state":{"a":1}}`, "same"},
		{"T23 digits", mapping.ShadowDelta, "", `{"version":6, "timestamp":1780000000,"state":{"n":12345678901234567890,"s":"\u00fc"}}`, "same"},
		{"command without params", mapping.CommandRequest, "e1", `{"action":"purge"}`, "same"},
		{"command without action", mapping.CommandRequest, "e2", `{"commandId":"c","params":{}}`, "dead schema"},
		{"command that is no JSON", mapping.CommandRequest, "e3", `purge`, "dead json"},
		{"command that is an array", mapping.CommandRequest, "e4", `["purge"]`, "dead schema"},
		{"T7 expired command", mapping.CommandRequest, "e5", `{"action":"purge","params":null,"timestamp":1,"ttl":5}`, "dead expired"},
		{"notify without jobs", mapping.JobsNotify, "", `{"jobs":{},"timestamp":1}`, "same"},
		{"notify {}", mapping.JobsNotify, "", `{}`, "same"},
		{"notify empty", mapping.JobsNotify, "", ``, "same"},
		{"notify-next nothing", mapping.JobsNotifyNext, "", `{"timestamp":1}`, "same"},
		{"notify-next {}", mapping.JobsNotifyNext, "", `{"execution":{},"timestamp":1}`, "same"},
		{"jobs list without lists", mapping.JobsGetAccepted, "", `{"queuedJobs":null,"clientToken":"unknown"}`, "same"},
		{"start-next without execution", mapping.JobsStartNextAccepted, "", `{"timestamp":1}`, "same"},
		{"jobDocument as string, long number", mapping.JobsStartNextAccepted, "", `{"execution":{"jobId":"j","jobDocument":"{}","executionNumber":1780000000000123}}`, "same"},
		{"problem+json", mapping.JobUpdateRejected, "j", `{"status":409,"title":"Conflict","detail":"version"}`, "same"},
		{"T26 duplicate keys", mapping.ShadowDelta, "", `{"version":7,"version":8,"state":{"a":1}}`, "dead json"},
		{"T26 invalid UTF-8", mapping.ShadowDelta, "", "{\"version\":7,\"state\":{\"a\":\"\xff\"}}", "dead json"},
		{"T26 BOM", mapping.ShadowDelta, "", "\ufeff{}", "dead json"},
		{"T26 array", mapping.ShadowDelta, "", `[]`, "dead schema"},
		{"T26 empty delta payload", mapping.ShadowDelta, "", ``, "dead json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDeciders(t)
			decision, err := d.down.Decide(t.Context(), arriving(c.channel, c.id, c.payload))
			want := c.want
			if want == "same" {
				want = c.payload
			}
			if got := fate(decision, err); got != want {
				t.Errorf("got %s, want %s (%v)", got, want, err)
			}
		})
	}
}

// An invalid command is answered REJECTED, an expired one TIMED_OUT, once.
func TestBadCommandsAreAnswered(t *testing.T) {
	d := newDeciders(t)
	for id, payload := range map[string]string{"e1": `{"params":{}}`, "e2": `nonsense`, "e3": `{"action":"a","timestamp":1,"ttl":5}`,
		"e4": `{"action":"` + strings.Repeat("x", 257) + `"}`} {
		if decision, err := d.down.Decide(t.Context(), arriving(mapping.CommandRequest, id, payload)); !strings.HasPrefix(fate(decision, err), "dead") {
			t.Errorf("%s: %s", payload, fate(decision, err))
		}
	}
	want := map[string]string{"e1": "REJECTED", "e2": "REJECTED", "e3": "TIMED_OUT", "e4": "REJECTED"}
	for _, m := range d.station.outbox.sent {
		if got := gjson.GetBytes(m.Payload, "status").String(); got != want[m.Address.ID] {
			t.Errorf("%s is answered %s, want %s", m.Address.ID, m.Payload, want[m.Address.ID])
		}
		m.Received = time.Now()
		if fate(d.up.Decide(t.Context(), Delivery{Message: m})) != string(m.Payload) {
			t.Error("the bridge's own answer breaks the schema")
		}
	}
	if len(d.station.outbox.sent) != 4 {
		t.Errorf("%d answers, want 4", len(d.station.outbox.sent))
	}
}

// Traps T7 and T20: repeated and retained requests.
func TestT7T20RepeatedAndRetainedRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeciders(t)
		request := arriving(mapping.CommandRequest, "e1", `{"action":"purge"}`)
		retained := request
		retained.Retained = true
		if got := fate(d.down.Decide(t.Context(), retained)); got != "duplicate" {
			t.Errorf("a retained request: %s", got)
		}
		decision, err := d.down.Decide(t.Context(), request)
		if fate(decision, err) != `{"action":"purge"}` {
			t.Fatal(fate(decision, err))
		}
		if got := fate(d.down.Decide(t.Context(), request)); got != "duplicate" {
			t.Errorf("redelivered while the first is on its way to the disk: %s", got)
		}
		settled := false
		decision.Finish(func() { settled = true })
		synctest.Wait()
		d.station.running.Wait()
		if got := d.station.outbox.payloads(); !settled || len(got) != 1 || got[0] != `{"status":"SUCCEEDED"}` {
			t.Errorf("settled %v, responses %q", settled, got)
		}
		if got := fate(d.down.Decide(t.Context(), request)); got != "duplicate" {
			t.Errorf("redelivered: %s", got)
		}
	})
}

// Killed between storing a request and opening its execution: it runs, and is not stored twice.
func TestRequestStoredBeforeACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeciders(t)
		request := arriving(mapping.CommandRequest, "e1", `{"action":"purge"}`)
		d.archive[request.Address] = request.Message
		decision, err := d.down.Decide(t.Context(), request)
		if fate(decision, err) != "delivered" || decision.Finish == nil {
			t.Fatal(fate(decision, err))
		}
		decision.Finish(func() {})
		synctest.Wait()
		d.station.running.Wait()
		if got := d.station.outbox.payloads(); len(got) != 1 {
			t.Errorf("responses %q", got)
		}
	})
}

func TestStraysAndEchoes(t *testing.T) {
	d := newDeciders(t)
	if got := fate(d.down.Decide(t.Context(), Delivery{Err: mapping.ErrOwnEcho})); got != "duplicate" {
		t.Error(got)
	}
	if got := fate(d.down.Decide(t.Context(), Delivery{Err: Rejectf(CodeUnexpected, "x")})); got != "dead unexpected" {
		t.Error(got)
	}
	if got := fate(d.up.Decide(t.Context(), Delivery{Err: Rejectf(CodeSubject, "x")})); got != "dead subject" {
		t.Error(got)
	}
}

// The refusals of protocol.md, section 8, end.
func TestOutboundRefusals(t *testing.T) {
	for _, c := range []struct {
		name    string
		channel mapping.Channel
		id      string
		payload string
		want    string
		pointer string
	}{
		{"state without reported", mapping.ShadowReport, "", `{"state":{}}`, "dead schema", "/state/reported"},
		{"reported array", mapping.ShadowReport, "", `{"state":{"reported":[]}}`, "dead schema", "/state/reported"},
		{"report with desired", mapping.ShadowReport, "", `{"state":{"reported":{},"desired":{}}}`, "dead schema", "/state/desired"},
		{"severity warning", mapping.Event, "boot", `{"eventType":"boot","severity":"warning"}`, "dead schema", "/severity"},
		{"eventType not equal topic", mapping.Event, "boot", `{"eventType":"stop","severity":"info"}`, "dead schema", "/eventType"},
		{"event timestamp float", mapping.Event, "boot", `{"eventType":"boot","severity":"info","timestamp":1.5}`, "dead schema", "/timestamp"},
		{"status DONE", mapping.CommandResponse, "e", `{"status":"DONE"}`, "dead schema", "/status"},
		{"response with executionId", mapping.CommandResponse, "e", `{"status":"SUCCEEDED","executionId":"e"}`, "dead schema", "/executionId"},
		{"result array", mapping.CommandResponse, "e", `{"status":"SUCCEEDED","result":[]}`, "dead schema", "/result"},
		{"step timeout 0", mapping.JobsStartNext, "", `{"stepTimeoutInMinutes":0}`, "dead schema", "/stepTimeoutInMinutes"},
		{"step timeout 10081", mapping.JobsStartNext, "", `{"stepTimeoutInMinutes":10081}`, "dead schema", "/stepTimeoutInMinutes"},
		{"step timeout 1.5", mapping.JobsStartNext, "", `{"stepTimeoutInMinutes":1.5}`, "dead schema", "/stepTimeoutInMinutes"},
		{"step timeout string", mapping.JobsStartNext, "", `{"stepTimeoutInMinutes":"60"}`, "dead schema", "/stepTimeoutInMinutes"},
		{"update QUEUED", mapping.JobUpdate, "j", `{"status":"QUEUED"}`, "dead schema", "/status"},
		{"update TIMED_OUT", mapping.JobUpdate, "j", `{"status":"TIMED_OUT"}`, "dead schema", "/status"},
		{"update CANCELED", mapping.JobUpdate, "j", `{"status":"CANCELED"}`, "dead schema", "/status"},
		{"negative version", mapping.ShadowReport, "", `{"state":{"reported":{}},"version":-1}`, "dead schema", "/version"},
		{"foreign thingName", mapping.JobsGet, "", `{"thingName":"other"}`, "dead schema", "/thingName"},
		{"too large", mapping.ShadowReport, "", `{"state":{"reported":{"x":"` + strings.Repeat("x", 128<<10) + `"}}}`, "dead too_large", ""},
		{"too deep", mapping.ShadowReport, "", `{"state":{"reported":` + strings.Repeat(`{"x":`, 80) + `1` + strings.Repeat("}", 80) + `}}`, "dead too_large", ""},
		{"huge exponent", mapping.ShadowReport, "", `{"state":{"reported":{"x":1e1000000}}}`, "dead json", "/state/reported/x"},
		{"empty", mapping.ShadowReport, "", ``, "dead json", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			decision, err := newDeciders(t).up.Decide(t.Context(), arriving(c.channel, c.id, c.payload))
			if got := fate(decision, err); got != c.want {
				t.Fatalf("got %s, want %s (%v)", got, c.want, err)
			}
			if !strings.Contains(err.Error(), c.pointer) {
				t.Errorf("%q does not name %s", err, c.pointer)
			}
		})
	}
}

func TestUpwardPassesByteForByte(t *testing.T) {
	for _, c := range []struct {
		channel mapping.Channel
		id      string
		payload string
	}{
		{mapping.Event, "boot", `{ "eventType":"boot", "severity":"info","data":{"n":12345678901234567890,"s":"\u00fc"},"timestamp":1780000000123}`},
		{mapping.CommandResponse, "e", `{ "status":"SUCCEEDED" , "result":{"n":1.0e2}}`},
		{mapping.JobsGet, "", `{ "clientToken":"req-1","thingName":"pump-07" }`},
		{mapping.JobsGet, "", `{}`},
		{mapping.JobsStartNext, "", `{"thingName":"pump-07","stepTimeoutInMinutes":60}`},
		{mapping.JobGet, "j", `{"executionNumber":1780000000000123}`},
		{mapping.JobUpdate, "j", `{"status":"IN_PROGRESS","expectedVersion":1,"statusDetails":{"p":0.10}}`},
	} {
		decision, err := newDeciders(t).up.Decide(t.Context(), arriving(c.channel, c.id, c.payload))
		if got := fate(decision, err); got != c.payload {
			t.Errorf("%s: got %s, want %s", c.channel, got, c.payload)
		}
	}
}

// Trap T25: events of one millisecond overwrite each other in Fleets.
func TestT25EventTimestamps(t *testing.T) {
	d := newDeciders(t)
	event := arriving(mapping.Event, "boot", `{"eventType":"boot","severity":"info"}`)
	event.Received, event.Stamp = time.UnixMilli(1780000000126), 1780000000123
	d.up.Now = func() time.Time { return event.Received }
	for i, want := range []string{
		`{"eventType":"boot","severity":"info","timestamp":1780000000123}`,
		`{"eventType":"boot","severity":"info","timestamp":1780000000124}`,
		`{"eventType":"boot","severity":"info","timestamp":1780000000125}`,
	} {
		decision, err := d.up.Decide(t.Context(), event)
		if got := fate(decision, err); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if (decision.Finish != nil) != (i > 0) {
			t.Errorf("event %d: a timestamp that is not its own must be saved before the event is forgotten, and only that", i)
		}
	}
}

// TestOneResponseAfterARestart: the one response waits for a connection for longer than max_age, and the bridge is
// started again meanwhile.
func TestOneResponseAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeciders(t)
		d.up.MaxAge = time.Hour
		time.Sleep(30 * 365 * 24 * time.Hour) // beyond clockFloor
		m := Delivery{Message: Message{Address: at(mapping.CommandResponse, "e1"), Payload: []byte(`{"status":"SUCCEEDED"}`), Received: time.Now(), Sequence: 7}}
		first := fate(d.up.Decide(t.Context(), m))
		time.Sleep(2 * time.Hour)
		again := fate(d.up.Decide(t.Context(), m))
		if first != again {
			t.Errorf("first %s, then %s", first, again)
		}
	})
}

// TestTimestampInSeconds: said once for each type, and the event goes on as it is.
func TestTimestampInSeconds(t *testing.T) {
	d := newDeciders(t)
	var log bytes.Buffer
	d.up.Log = slog.New(slog.NewTextHandler(&log, nil))
	for _, c := range []struct {
		id, timestamp string
		lines         int
	}{{"boot", "1780000000123", 0}, {"boot", "1780000000", 1}, {"boot", "1780000001", 1}, {"boot", "99999999999", 1}, {"stop", "99999999999", 2}, {"stop", "100000000000", 2}} {
		payload := `{"eventType":"` + c.id + `","severity":"info","timestamp":` + c.timestamp + `}`
		decision, err := d.up.Decide(t.Context(), arriving(mapping.Event, c.id, payload))
		if got := fate(decision, err); got != payload {
			t.Errorf("got %s, want %s", got, payload)
		}
		if got := strings.Count(log.String(), "looks like seconds"); got != c.lines {
			t.Errorf("%s: %d lines, want %d", payload, got, c.lines)
		}
	}
}

func TestStaleQuestionsExpire(t *testing.T) {
	for _, c := range []struct {
		channel mapping.Channel
		id      string
		age     time.Duration
		dead    bool
	}{
		{mapping.JobsGet, "", 29 * time.Second, false},
		{mapping.JobsGet, "", 31 * time.Second, true},
		{mapping.JobsStartNext, "", 31 * time.Second, true},
		{mapping.JobGet, "j", 31 * time.Second, true},
		{mapping.Event, "boot", 100 * time.Hour, false},
		{mapping.Event, "boot", 169 * time.Hour, true},                 // nats.up.max_age
		{mapping.Event, "boot", time.Since(time.Unix(1000, 0)), false}, // stored before the clock was set
	} {
		d := newDeciders(t)
		m := arriving(c.channel, c.id, `{}`)
		if c.channel == mapping.Event {
			m = arriving(c.channel, c.id, `{"eventType":"boot","severity":"info","timestamp":1}`)
		}
		m.Received = time.Now().Add(-c.age)
		if got := fate(d.up.Decide(t.Context(), m)); (got == "dead expired") != c.dead {
			t.Errorf("%s, %s old: %s", c.channel, c.age, got)
		}
	}
}

// What is handed on says until when it is of use, because it may wait for the broker after that; but what the next
// messages build on, or nothing can take the place of, is sent whenever that is possible.
func TestWhatIsHandedOnExpires(t *testing.T) {
	for _, c := range []struct {
		channel mapping.Channel
		id      string
		payload string
		after   time.Duration // 0: never
	}{
		{mapping.JobsGet, "", `{}`, 30 * time.Second},
		{mapping.Event, "boot", `{"eventType":"boot","severity":"info"}`, 168 * time.Hour},
		{mapping.JobUpdate, "j", `{"thingName":"pump-07","status":"FAILED"}`, 168 * time.Hour},
		{mapping.ShadowReport, "", `{"state":{"reported":{"a":1}}}`, 0},
		{mapping.CommandResponse, "e", `{"status":"SUCCEEDED"}`, 0},
	} {
		d := newDeciders(t)
		m := arriving(c.channel, c.id, c.payload)
		m.Received = time.Now().Add(-time.Second)
		decision, err := d.up.Decide(t.Context(), m)
		if err != nil || !decision.Forward {
			t.Fatalf("%s: %+v, %v", c.channel, decision, err)
		}
		want := time.Time{}
		if c.after > 0 {
			want = m.Received.Add(c.after)
		}
		if got := decision.Message.Expires; !got.Equal(want) {
			t.Errorf("%s: expires %v, want %v", c.channel, got, want)
		}
		m.Received = time.Unix(1000, 0) // before the clock was set
		if decision, err := newDeciders(t).up.Decide(t.Context(), m); err != nil || !decision.Message.Expires.IsZero() {
			t.Errorf("%s before the clock was set: %+v, %v", c.channel, decision, err)
		}
	}
}

func TestResyncIsAskedForOnce(t *testing.T) {
	d := newDeciders(t)
	for _, version := range []int{100, 1, 2, 3, 4} {
		if _, err := d.down.Decide(t.Context(), arriving(mapping.ShadowDelta, "", string(delta(version, `{"a":1}`)))); err != nil {
			t.Fatal(err)
		}
	}
	if d.resyncs != 1 {
		t.Errorf("%d resyncs, want 1", d.resyncs)
	}
}

// takeAll takes what passes a gate, until stop.
func takeAll(t *testing.T, g *Gate) (ctx context.Context, got *[]string, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	got = new([]string)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			for _, d := range g.Take(ctx) {
				*got = append(*got, string(d.Payload))
			}
		}
	}()
	return ctx, got, func() { cancel(); <-ended }
}

// The GET decides which queued shadow messages are stale; everything else passes meanwhile.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := make(feed, 10)
		g := NewGate(source)
		g.Close()
		ctx, got, stop := takeAll(t, g)
		source <- arriving(mapping.ShadowDelta, "", "d1")
		source <- arriving(mapping.CommandRequest, "e", "c1")
		source <- arriving(mapping.ShadowDesired, "", "d2")
		source <- arriving(mapping.JobsNotify, "", "n1")
		synctest.Wait()
		if strings.Join(*got, " ") != "c1 n1" {
			t.Errorf("behind a closed gate: %q", *got)
		}
		lost, cut := context.WithCancel(ctx)
		cut()
		g.Open(lost) // of the connection before
		synctest.Wait()
		if strings.Join(*got, " ") != "c1 n1" {
			t.Errorf("opened for a connection that is lost: %q", *got)
		}
		g.Open(ctx)
		source <- arriving(mapping.ShadowDelta, "", "d3")
		synctest.Wait()
		if strings.Join(*got, " ") != "c1 n1 d1 d2 d3" {
			t.Errorf("after it opened: %q", *got)
		}
		stop()
	})
}

// TestGateSettlesInOrder: the source hears of nothing that passed what is held before it hears of that, and of what is
// forgotten with its connection, so that it lets it go.
func TestGateSettlesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := make(feed, 10)
		g := NewGate(source)
		settled := ""
		put := func(c mapping.Channel, payload string) {
			d := arriving(c, "", payload)
			d.Settle = func() { settled += payload + " " }
			source <- d
		}
		take := func(n int) {
			for range n {
				for _, d := range g.Take(t.Context()) {
					d.Settle()
				}
			}
		}
		expect := func(want string) {
			t.Helper()
			if settled != want {
				t.Errorf("settled %q, want %q", settled, want)
			}
			settled = ""
		}
		put(mapping.ShadowDelta, "d0")
		take(1)
		expect("d0 ")
		g.Close()
		put(mapping.JobsNotify, "n1")
		take(1)
		expect("n1 ")
		for i := range 3 {
			put(mapping.ShadowDelta, fmt.Sprint("d", i))
			put(mapping.JobsNotify, fmt.Sprint("n", i))
		}
		take(3)
		expect("")
		g.Open(t.Context())
		take(1)
		expect("d0 n0 d1 n1 d2 n2 ")
		g.Close()
		put(mapping.ShadowDelta, "lost")
		put(mapping.JobsNotify, "n3")
		take(1)
		g.Close()
		g.Kept()
		put(mapping.JobsNotify, "n4")
		take(1)
		expect("lost n3 n4 ")
		put(mapping.JobsNotify, "n5")
		take(1)
		expect("n5 ")
		if !g.passed.none() {
			t.Error("something is kept")
		}
	})
}

// TestGateOfAKeptSession: what a broker brings again over each connection that is lost before it is ready does
// not pile up, and none of it is missing.
func TestGateOfAKeptSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := make(feed)
		g := NewGate(source)
		ctx, got, stop := takeAll(t, g)
		for range 50 {
			g.Close()
			g.Kept()
			for _, d := range []string{"d1", "d2", "d3"} {
				source <- arriving(mapping.ShadowDelta, "", d)
			}
			synctest.Wait()
		}
		if len(g.held) != 3 {
			t.Errorf("%d are held, want 3", len(g.held))
		}
		g.Close()
		g.Open(ctx) // over a connection without the session, on which they don't come again
		synctest.Wait()
		if strings.Join(*got, " ") != "d1 d2 d3" {
			t.Errorf("after it opened: %q", *got)
		}
		stop()
	})
}
