package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

func reportedOf(payload []byte) string { return gjson.GetBytes(payload, "state.reported").Raw }

func shown(s *Shadow, part string) string { return gjson.GetBytes(s.Document(), part).Raw }

// saved writes the document and returns what the next run makes of it.
func saved(t *testing.T, s *Shadow, b ShadowView) *Shadow {
	t.Helper()
	done := make(chan struct{})
	s.Save(deadline(t), func() { close(done) })
	<-done
	again, err := LoadShadow(deadline(t), s.cfg, b, archive{})
	if err != nil || again.damage != nil {
		t.Fatal(err, again.damage)
	}
	return again
}

func fetching(t *testing.T, b ShadowView) *Shadow {
	t.Helper()
	s, err := LoadShadow(deadline(t), ShadowConfig{Thing: pump07, Merged: true, Fetches: true}, b, archive{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A refused report leaves no trace: in what is merged later, in the document, and after a restart.
func TestRefusedReportLeavesNoTrace(t *testing.T) {
	b := newMemory()
	s := newShadow(t, b, archive{})
	reports(t, s, `{"a":1,"keep":{"x":1}}`).Taken()
	for _, refused := range []string{`{"a":2}`, `{"bad":{"deep":[1]}}`, `{"keep":null}`, `{"keep":{"x":null,"y":2}}`} {
		r := reports(t, s, refused)
		if again := saved(t, s, b); shown(again, "reported") != `{"a":1,"keep":{"x":1}}` {
			t.Errorf("%s: after a restart in the middle of it, %s is known", refused, again.Document())
		}
		if r.Refused() {
			t.Errorf("%s: nothing else was refused, but it is to be sent again", refused)
		}
		if got := shown(s, "reported"); got != `{"a":1,"keep":{"x":1}}` {
			t.Errorf("%s: the document has %s", refused, got)
		}
		if again := saved(t, s, b); shown(again, "reported") != `{"a":1,"keep":{"x":1}}` {
			t.Errorf("%s: after a restart %s", refused, again.Document())
		}
	}
	if got := reportedOf(reports(t, s, `{"b":2}`).Payload()); got != `{"a":1,"keep":{"x":1},"b":2}` {
		t.Errorf("the next report is %s", got)
	}
}

// Reports behind a refused one were published with it, and are refused for it: they go again without it, and are not
// lost; one that is refused for itself is.
func TestReportsBehindARefusedOne(t *testing.T) {
	s := newShadow(t, newMemory(), archive{})
	reports(t, s, `{"a":1}`).Taken()
	bad, b, worse, c := reports(t, s, `{"bad":1}`), reports(t, s, `{"b":2,"a":null}`), reports(t, s, `{"worse":1}`), reports(t, s, `{"c":3}`)
	if bad.Refused() {
		t.Error("the first is refused for itself")
	}
	if !b.Refused() || reportedOf(b.Payload()) != `{"a":null,"b":2,"worse":1,"c":3}` {
		t.Errorf("b is published as %s", b.Payload())
	}
	if !worse.Refused() || worse.Refused() {
		t.Error("worse goes once more, and is refused for itself then")
	}
	if !b.Refused() || reportedOf(b.Payload()) != `{"a":null,"b":2,"c":3}` { // it was behind worse
		t.Errorf("b is published as %s", b.Payload())
	}
	if !c.Refused() || reportedOf(c.Payload()) != `{"b":2,"c":3}` {
		t.Errorf("c is published as %s", c.Payload())
	}
	b.Taken()
	c.Taken()
	if got := shown(s, "reported"); got != `{"b":2,"c":3}` || len(s.flight) != 0 || len(s.faults) != 0 {
		t.Errorf("%s, %d on their way, %d faults", got, len(s.flight), len(s.faults))
	}
}

// A report that is tried again is tried without the others that are refused, and they without it; whatever order they
// are taken in, the document has all that was taken, in the order in which it was reported, and the whole goes once
// more.
func TestReportTriedAgain(t *testing.T) {
	s := newShadow(t, newMemory(), archive{})
	refreshed := 0
	s.refresh = func() { refreshed++ }
	reports(t, s, `{"n":0}`).Taken()
	bad, good := reports(t, s, `{"bad":1,"n":1}`), reports(t, s, `{"n":2}`)
	if got := reportedOf(bad.Again()); got != `{"n":1,"bad":1}` {
		t.Errorf("bad alone is %s", got)
	}
	if got := reportedOf(good.Again()); got != `{"n":2}` {
		t.Errorf("good without bad is %s", got)
	}
	later := reports(t, s, `{"later":1}`)
	if got := reportedOf(later.Payload()); got != `{"n":0,"later":1}` {
		t.Errorf("a new report beside two suspects is %s", got)
	}
	good.Taken()
	if got := reportedOf(bad.Again()); got != `{"n":2,"bad":1}` {
		t.Errorf("bad after good was taken is %s: an older value is back", got)
	}
	later.Taken()
	if bad.Refused() {
		t.Error("bad is refused for itself")
	}
	if got := shown(s, "reported"); got != `{"n":2,"later":1}` || refreshed != 1 {
		t.Errorf("%s, refreshed %d times, want once: later was published without n", got, refreshed)
	}
	if got := reportedOf(reports(t, s, `{}`).Payload()); got != `{"n":2,"later":1}` {
		t.Errorf("the refreshing report is %s", got)
	}
}

// The pump sends again what was refused for another's sake, and buries the rest.
func TestPumpTakesReportsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusing := &picky{word: `"bad"`}
		in, dead := make(feed, 10), &graveyard{}
		d := newDeciders(t)
		p := &Pump{Direction: mapping.Up, Source: in, Decider: d.up, Sink: refusing, Graveyard: dead, Observer: &fates{}, Log: quiet()}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Run(ctx, ctx) }()
		for i, r := range []string{`{"a":1}`, `{"bad":1}`, `{"b":2}`, `{"c":{"d":null}}`} {
			m := arriving(mapping.ShadowReport, "", `{"state":{"reported":`+r+`}}`)
			m.Sequence = uint64(i)
			in <- m
		}
		synctest.Wait()
		refusing.answerAll()
		synctest.Wait()
		refusing.answerAll()
		synctest.Wait()
		if len(dead.letters) != 1 || !strings.Contains(string(dead.letters[0].Payload), `"bad"`) {
			t.Errorf("dead letters %+v", dead.letters)
		}
		if got := refusing.took; len(got) != 3 || !strings.Contains(got[2], `{"a":1,"b":2,"c":{`) {
			t.Errorf("the broker took %s", got)
		}
		if got := shown(d.up.Shadow, "reported"); got != `{"a":1,"b":2,"c":{}}` {
			t.Errorf("the document has %s", got)
		}
		stop()
		<-ended
	})
}

// picky is a broker that refuses what has a word in it, and takes its time.
type picky struct {
	word string
	mu   sync.Mutex
	wait []func()
	took []string
}

func (p *picky) Send(_ context.Context, m Message, done func(error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wait = append(p.wait, func() {
		if strings.Contains(string(m.Payload), p.word) {
			done(Rejectf(CodeRefused, "no"))
			return
		}
		p.took = append(p.took, string(m.Payload))
		done(nil)
	})
	return nil
}

func (p *picky) answerAll() {
	p.mu.Lock()
	wait := p.wait
	p.wait = nil
	p.mu.Unlock()
	for _, answer := range wait {
		answer()
		synctest.Wait()
	}
}

// What the broker has and the cloud's document does not show yet lies on top of it, until it shows it, or has gone on
// without it; a newer document replaces what an older one said.
func TestUnconfirmedReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory()
		s := fetching(t, b)
		get := func(version int, reported string) string {
			fetched(s, fmt.Appendf(nil, `{"reported":%s,"desired":{},"delta":{},"version":%d}`, reported, version))
			return shown(s, "reported")
		}
		steps := []struct {
			what     string
			report   string
			wait     time.Duration
			version  int
			reported string
			want     string
		}{
			{"the cloud's own", "", 0, 3, `{"x":1,"y":1}`, `{"x":1,"y":1}`},
			{"a newer one", "", 0, 4, `{"x":2}`, `{"x":2}`},
			{"not there yet", `{"a":1,"x":null}`, time.Second, 4, `{"x":2}`, `{"a":1}`},
			{"half of it", "", time.Second, 5, `{"a":1,"x":2}`, `{"a":1}`},
			{"there, and gone on", "", time.Second, 6, `{"a":7}`, `{"a":7}`},
			{"lost by the cloud, which stands still", `{"b":1}`, time.Hour, 6, `{"a":7}`, `{"a":7,"b":1}`},
			{"the cloud has gone on without it", "", time.Hour, 8, `{"a":7,"b":2}`, `{"a":7,"b":2}`},
			{"as a double", `{"n":12345678901234567890}`, time.Second, 8, `{"n":1.2345678901234567e19}`, `{"n":1.2345678901234567e19}`},
		}
		for _, c := range steps {
			if c.report != "" {
				reports(t, s, c.report).Taken()
			}
			time.Sleep(c.wait)
			s = saved(t, s, b)
			if got := get(c.version, c.reported); got != c.want {
				t.Errorf("%s: %s, want %s", c.what, got, c.want)
			}
		}
	})
}

// An older document never replaces a newer one: not a copy that somebody has kept, not an answer that was overtaken.
func TestOlderDocuments(t *testing.T) {
	document := func(version int, at, value string) []byte {
		return fmt.Appendf(nil, `{"reported":{"v":%q},"desired":{},"delta":{},"version":%d,"updatedAt":%q}`, value, version, at)
	}
	s := fetching(t, newMemory())
	fetched(s, document(7, "2026-01-01T00:00:07Z", "seven"))
	if _, err := s.Fetched(s.Asks(), document(5, "2026-01-01T00:00:05Z", "five")); err == nil || !strings.Contains(err.Error(), "version 5") {
		t.Errorf("a copy of before: %v", err)
	}
	early := s.Asks()
	if err := s.Learn(s.Asks(), document(9, "2026-01-01T00:00:09Z", "nine")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fetched(early, document(8, "2026-01-01T00:00:08Z", "eight")); err == nil {
		t.Error("an answer that was overtaken by another one is believed")
	}
	if got := shown(s, "reported.v"); got != `"nine"` {
		t.Errorf("%s is known, want nine", got)
	}
	q := s.Asks()
	s.Delta([]byte(`{"version":12,"timestamp":1780000000,"state":{"v":"ten"}}`))
	if d, err := s.Fetched(q, []byte(`{"reported":{"v":"eleven"},"desired":{"v":"old"},"delta":{"v":"old"},"version":11}`)); err != nil || d != nil {
		t.Errorf("a delta that was overtaken while the GET was under way is delivered: %s, %v", d, err)
	}
	if got := string(s.document().print()); !strings.Contains(got, `{"reported":{"v":"eleven"},"desired":{"v":"ten"},"delta":{"v":"ten"},"version":12`) {
		t.Errorf("the document is %s", got)
	}
	// A Thing that was created anew: younger, with a lower version.
	fetched(s, document(1, "2026-06-01T00:00:00Z", "one"))
	if got := shown(s, "reported.v"); got != `"one"` {
		t.Errorf("%s is known, want one", got)
	}
	// And what is said again and again is believed, whatever its clock.
	for range olderRun {
		_, _ = s.Fetched(s.Asks(), document(0, "2020-01-01T00:00:00Z", "nil"))
	}
	if got := shown(s, "reported.v"); got != `"nil"` {
		t.Errorf("%s is known, want nil", got)
	}
}

// A negative answer in a positive envelope is no document, whatever is known.
func TestNoDocuments(t *testing.T) {
	s := fetching(t, newMemory())
	fresh := fetching(t, newMemory())
	fetched(s, []byte(`{"reported":{"rpm":1},"desired":{"rpm":2},"delta":{"rpm":2},"version":7,"updatedAt":"2026-01-01T00:00:00Z"}`))
	for _, c := range []struct{ body, words string }{
		{`{"code":401,"message":"token expired"}`, "token expired"},
		{`{"success":false,"error":{"code":"RATE_LIMITED"}}`, "RATE_LIMITED"},
		{`{"data":{"desired":{"rpm":9},"version":8}}`, "neither"},
		{`{"data":null,"error":"no \u0007 such thing"}`, "no   such thing"},
		{`{"error":"maintenance","reported":{},"desired":{},"delta":{},"version":0}`, "maintenance"},
		{`{"errors":[{"message":"forbidden"}],"reported":{}}`, "forbidden"},
		{`{"success":false,"reported":{},"version":9}`, "is an error"},
		{`{"status":"error","version":"1.0"}`, "neither"},
		{`{"message":"x","reported":null,"desired":null,"delta":null}`, "without a version"},
		{`{}`, "neither"}, {`[]`, "no JSON object"}, {`[{"reported":{}}]`, "no JSON object"}, {`null`, "no JSON object"}, {`"ok"`, "no JSON object"},
		{`{"detail":"` + strings.Repeat("x", 10000) + `"}`, "xx…"},
	} {
		for _, shadow := range []*Shadow{s, fresh} {
			if err := shadow.Judge([]byte(c.body)); err == nil || !strings.Contains(err.Error(), c.words) || len(err.Error()) > 500 {
				t.Errorf("%s: %v", c.body, err)
			}
		}
	}
	for _, body := range []string{`{"version":6}`, `{"version":9}`, `{"reported":null,"desired":null,"delta":null,"version":6}`} {
		if err := s.Judge([]byte(body)); err == nil {
			t.Errorf("%s would erase version 7", body)
		}
	}
	for _, body := range []string{
		`{"reported":null,"desired":{"a":1},"delta":{"a":1},"version":1}`, `{"reported":{},"version":8}`, `{"reported":{},"error":null,"version":8}`,
		`{"reported":null,"desired":null,"delta":null,"version":8}`, `{"reported":{"error":"E7"},"desired":{},"delta":{},"version":8}`,
	} {
		if err := s.Judge([]byte(body)); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
	if err := fresh.Judge([]byte(`{"version":0}`)); err != nil {
		t.Errorf("a Thing that was never used: %v", err)
	}
}

// What the version before stored is read, and is what the cloud and the broker have.
func TestStoredByTheVersionBefore(t *testing.T) {
	for _, c := range []struct{ stored, reported, desired, delta string }{
		{`{"reported":{"a":1},"desired":{"a":2},"delta":{"z":9},"version":3,"updatedAt":"2026-01-01T00:00:00Z"}`, `{"a":1}`, `{"a":2}`, `{"a":2}`},
		{`{"reported":null,"desired":{},"delta":{"z":9},"version":0,"updatedAt":""}`, `{}`, `{}`, `{}`},
		{`{"reported":{"m":"x"},"desired":{"m":"x"},"delta":{"m":"x"},"version":9,"updatedAt":"yesterday"}`, `{"m":"x"}`, `{"m":"x"}`, `{}`},
	} {
		b := newMemory()
		b.values["pump-07"] = []byte(c.stored)
		s := fetching(t, b)
		if got := [3]string{shown(s, "reported"), shown(s, "desired"), shown(s, "delta")}; s.damage != nil || got != [3]string{c.reported, c.desired, c.delta} {
			t.Errorf("%s is read as %s, %v", c.stored, s.Document(), s.damage)
		}
	}
}

// A document that is too large for its bucket never stops what waits for it: the note goes first, then what the cloud
// wants, then the key.
func TestDocumentTooLargeForItsBucket(t *testing.T) {
	b := newMemory()
	s := fetching(t, b)
	s.cfg.MaxRecord = 2000
	pad := func(n int) string { return `"` + strings.Repeat("x", n) + `"` }
	has := func(want ...string) {
		t.Helper()
		done := make(chan struct{})
		s.Save(deadline(t), func() { close(done) })
		<-done
		got := []string{shape(b.values["pump-07"], "reported"), shape(b.values["pump-07"], "desired")}
		if len(b.values["pump-07"]) == 0 {
			got = nil
		}
		if !slices.Equal(got, want) {
			t.Errorf("stored %v of %d bytes, want %v", got, len(b.values["pump-07"]), want)
		}
	}
	reports(t, s, `{"r":`+pad(600)+`}`).Taken()
	has("JSON", "JSON")
	s.Desired([]byte(`{"state":{"desired":{"d":` + pad(700) + `}},"version":1}`))
	has("JSON", "Null")
	s.Desired([]byte(`{"state":{"desired":{"d":1}},"version":2}`))
	has("JSON", "JSON")
	fetched(s, []byte(`{"reported":{"s":`+pad(2500)+`},"desired":{},"delta":{},"version":3}`))
	has()
	if _, err := s.Report([]byte(`{"state":{"reported":{"more":1}}}`), 1<<20); err == nil || !strings.Contains(err.Error(), "max_payload") {
		t.Errorf("a report on top of it: %v", err)
	}
	reports(t, s, `{"s":null}`).Taken()
	has("JSON", "JSON")
	b.set(fmt.Errorf("nats: %w", ErrTooLarge)) // the server takes less than it said
	done := make(chan struct{})
	reports(t, s, `{"a":1}`).Taken()
	s.Save(deadline(t), func() { close(done) })
	b.set(nil)
	<-done
}

// A note that is longer than headers may be leaves out what is least missed.
func TestLongNotes(t *testing.T) {
	b := newMemory()
	s := fetching(t, b)
	fetched(s, []byte(`{"reported":{"x":1},"desired":{},"delta":{},"version":7}`))
	reports(t, s, `{"long":"`+strings.Repeat("x", MaxNote)+`"}`).Taken()
	reports(t, s, `{"x":2}`)
	if again := saved(t, s, b); len(b.notes["pump-07"]) > MaxNote || shown(again, "reported.x") != "1" || again.cloud.version != 7 || again.unconfirmed != nil {
		t.Errorf("a note of %d bytes: %.60s", len(b.notes["pump-07"]), again.Document())
	}
	reports(t, s, `{"x":{"y":[0]},"long":null}`)
	if again := saved(t, s, b); len(b.notes["pump-07"]) > MaxNote || !again.cloud.fetched {
		t.Errorf("a note of %d bytes", len(b.notes["pump-07"]))
	}
}

func shape(doc []byte, part string) string { return gjson.GetBytes(doc, part).Type.String() }
