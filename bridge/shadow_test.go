package bridge

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fleetbridge/mapping"
)

func newShadow(t *testing.T, b ShadowView, a Archive) *Shadow {
	t.Helper()
	s, err := LoadShadow(deadline(t), ShadowConfig{Thing: pump07, Merged: true}, b, a)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// whole is what a report is published as.
func whole(s *Shadow, payload []byte, limit int) ([]byte, error) {
	r, err := s.Report(payload, limit)
	if err != nil {
		return nil, err
	}
	return r.Payload(), nil
}

// reports hands a reported state over, on its way to the broker.
func reports(t *testing.T, s *Shadow, reported string) *Report {
	t.Helper()
	r, err := s.Report([]byte(`{"state":{"reported":`+reported+`}}`), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fetched is the delta to deliver after a GET.
func fetched(s *Shadow, body []byte) []byte {
	delta, err := s.Fetched(s.Asks(), body)
	if err != nil {
		panic(err)
	}
	return delta
}

func delta(version int, state string) []byte {
	return fmt.Appendf(nil, `{"version":%d,"timestamp":1780000000,"state":%s}`, version, state)
}

func TestDeltaVersions(t *testing.T) {
	s := newShadow(t, newMemory(), archive{})
	for _, c := range []struct {
		name    string
		payload []byte
		want    bool
	}{
		{"first", delta(5, `{"rpm":1500}`), true},
		{"redelivered", delta(5, `{"rpm":1500}`), false},
		{"same version, other content: the newest wins", delta(5, `{"rpm":1600}`), true},
		{"newer", delta(6, `{"rpm":1500}`), true},
		{"fixture: version 4 after version 6", delta(4, `{"rpm":1}`), false},
		{"fixture: no metadata, time in ms", []byte(`{"version":7,"timestamp":1780000000000,"state":{"rpm":7}}`), true},
		{"fixture: an empty delta, a no-op for the device", delta(8, `{}`), true},
		{"null is empty", delta(9, `null`), true},
	} {
		if got := s.Delta(c.payload); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// A desired push and a delta of one version are both delivered.
func TestPushAndDeltaOfOneVersion(t *testing.T) {
	s := newShadow(t, newMemory(), archive{})
	push := []byte(`{"state":{"desired":{"a":1}},"version":3}`)
	if !s.Desired(push) || !s.Delta(delta(3, `{"a":1}`)) {
		t.Error("one of the two was dropped")
	}
	if s.Desired(push) || s.Delta(delta(3, `{"a":1}`)) {
		t.Error("a redelivery passed")
	}
	if !s.Desired([]byte(`{"state":{"desired":null},"version":5}`)) {
		t.Error("desired null was dropped")
	}
	if got := string(s.Document()); !strings.Contains(got, `"version":5`) {
		t.Errorf("the version was not noted: %s", got)
	}
	if !s.Desired([]byte(`{"state":{"desired":{"b":1}}}`)) {
		t.Error("a push without a version was dropped")
	}
}

func TestMarksSurviveARestart(t *testing.T) {
	last := archive{
		at(mapping.ShadowDelta, ""):   {Payload: delta(12, `{"rpm":1500}`)},
		at(mapping.ShadowDesired, ""): {Payload: []byte(`{"state":{"desired":{"rpm":1500}},"version":12}`)},
	}
	s := newShadow(t, newMemory(), last)
	if s.Delta(delta(12, `{"rpm":1500}`)) || s.Desired([]byte(`{"state":{"desired":{"rpm":1500}},"version":12}`)) {
		t.Error("what the last run delivered is delivered again")
	}
	if !s.Delta(delta(13, `{"rpm":1500}`)) {
		t.Error("a new version was dropped")
	}
}

// Trap T12: a delta that the device can't reach comes again after each report.
func TestT12DeltaLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShadow(t, newMemory(), archive{})
		report := []byte(`{"state":{"reported":{"rpm":3000}}}`)
		delivered := 0
		for version := 1; version <= 200; version++ {
			if s.Delta(delta(version, `{"rpm":9999}`)) {
				delivered++
			}
			if _, err := whole(s, report, 1<<20); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if delivered < 4 || delivered > 12 {
			t.Errorf("%d of 200 rounds in 20 s were delivered, want a few", delivered)
		}
		if !s.Delta(delta(201, `{"rpm":10}`)) {
			t.Error("another state was dropped")
		}
	})
}

// The guard must not touch what is no loop: the same state under new versions without a report.
func TestSameStateWithoutReportsIsNoLoop(t *testing.T) {
	s := newShadow(t, newMemory(), archive{})
	for version := 1; version <= 100; version++ {
		if !s.Delta(delta(version, `{"rpm":1}`)) {
			t.Fatalf("version %d was dropped", version)
		}
	}
}

// Trap T13: a Thing that was deleted and created anew counts from 1.
func TestT13VersionsRestart(t *testing.T) {
	s := newShadow(t, newMemory(), archive{})
	s.Delta(delta(500, `{"a":1}`))
	for version := 1; version <= staleRun; version++ {
		if s.WantsResync() {
			t.Fatal("wants a GET too early")
		}
		if s.Delta(delta(version, `{"a":2}`)) {
			t.Fatal("an older version passed")
		}
	}
	if !s.WantsResync() || s.WantsResync() {
		t.Fatal("versions keep coming lower: it must want one GET")
	}
	if got := fetched(s, []byte(`{"reported":{},"desired":{"a":2},"delta":{"a":2},"version":3}`)); string(got) == "" {
		t.Error("the fetched delta was not delivered")
	}
	if !s.Delta(delta(4, `{"a":3}`)) {
		t.Error("the Thing stays mute after the GET")
	}

	s.Delta(delta(500, `{"a":1}`))
	s.NewSession()
	if !s.Delta(delta(1, `{"a":9}`)) {
		t.Error("the Thing stays mute after a new session")
	}
}

func TestFetched(t *testing.T) {
	s := newShadow(t, newMemory(), archive{})
	body := []byte(`{"reported":{"rpm":1480},"desired":{"rpm":15000000000000000001},"delta":{"rpm":15000000000000000001},"version":12,"updatedAt":"2026-05-27T10:05:00Z"}`)
	want := `{"version":12,"timestamp":1779876300,"state":{"rpm":15000000000000000001}}`
	if got := string(fetched(s, body)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := fetched(s, body); got != nil {
		t.Errorf("a version that was delivered is delivered again: %s", got)
	}
	if s.Delta(delta(12, `{"rpm":15000000000000000001}`)) {
		t.Error("the broker's copy of the fetched delta is delivered, too")
	}
	if s.Delta(delta(11, `{"rpm":1}`)) {
		t.Error("a queued delta older than the fetched one passed")
	}
	if got := string(s.Document()); got != string(body) {
		t.Errorf("document %s", got)
	}
	for _, empty := range []string{`{}`, `{"delta":null,"version":13}`, `{"delta":{},"version":14}`, `{"reported":null,"version":15}`} {
		if got := fetched(s, []byte(empty)); got != nil {
			t.Errorf("%s: delivered %s", empty, got)
		}
	}
	if got := fetched(s, []byte(`{"reported":null,"desired":{"a":1},"delta":{"a":1},"version":1}`)); got == nil {
		t.Error("fixture: reported null with a delta was not applied")
	}
}

// Trap T14: processes that report parts must not erase each other's.
func TestT14MergedReports(t *testing.T) {
	bucket := newMemory()
	s := newShadow(t, bucket, archive{})
	for _, c := range []struct{ in, out string }{
		{`{"state":{"reported":{"temp":21.50}},"clientToken":"a"}`, `{"state":{"reported":{"temp":21.50}},"clientToken":"a"}`},
		{`{"state":{"reported":{"hum":12345678901234567890}}}`, `{"state":{"reported":{"temp":21.50,"hum":12345678901234567890}}}`},
		{`{"state":{"reported":{"temp":null}}}`, `{"state":{"reported":{"temp":null,"hum":12345678901234567890}}}`},
		{`{"state":{"reported":{"x":{"y":1}}}}`, `{"state":{"reported":{"hum":12345678901234567890,"x":{"y":1}}}}`},
	} {
		r, err := s.Report([]byte(c.in), 1<<20)
		if err != nil || string(r.Payload()) != c.out {
			t.Fatalf("report %s\ngot  %s, %v\nwant %s", c.in, r.Payload(), err, c.out)
		}
		r.Taken()
	}
	saved := make(chan struct{})
	s.Save(deadline(t), func() { close(saved) })
	<-saved
	again := newShadow(t, bucket, archive{})
	got, err := whole(again, []byte(`{"state":{"reported":{"z":1}}}`), 1<<20)
	if want := `{"state":{"reported":{"hum":12345678901234567890,"x":{"y":1},"z":1}}}`; err != nil || string(got) != want {
		t.Errorf("after a restart: %s, %v, want %s", got, err, want)
	}
}

// A report that would make every later one too large must change nothing.
func TestReportThatGrowsTooLarge(t *testing.T) {
	s := newShadow(t, newMemory(), archive{})
	if _, err := whole(s, []byte(`{"state":{"reported":{"a":1}}}`), 60); err != nil {
		t.Fatal(err)
	}
	rejection := (*Rejection)(nil)
	_, err := whole(s, []byte(`{"state":{"reported":{"b":"`+strings.Repeat("x", 50)+`"}}}`), 60)
	if !errors.As(err, &rejection) || rejection.Code != CodeTooLarge {
		t.Fatalf("got %v, want too_large", err)
	}
	got, err := whole(s, []byte(`{"state":{"reported":{"c":1}}}`), 60)
	if want := `{"state":{"reported":{"a":1,"c":1}}}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func TestSaverWritesTheNewestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := newMemory()
		s := newShadow(t, bucket, archive{})
		bucket.set(errors.New("no space"))
		told := 0
		for i := range 100 {
			if _, err := whole(s, fmt.Appendf(nil, `{"state":{"reported":{"n":%d}}}`, i), 1<<20); err != nil {
				t.Fatal(err)
			}
			s.Save(t.Context(), func() { told++ })
		}
		synctest.Wait()
		if told != 0 {
			t.Fatalf("%d reports were told durable on a full disk", told)
		}
		bucket.set(nil)
		time.Sleep(2 * pauseMax)
		synctest.Wait()
		if told != 100 || bucket.writes > 3 {
			t.Errorf("%d of 100 told, in %d writes", told, bucket.writes)
		}
		if got := string(bucket.values["pump-07"]); !strings.Contains(got, `{"n":99}`) {
			t.Error(got)
		}
	})
}

func TestEventClock(t *testing.T) {
	bucket := newMemory()
	load := func() *EventClock {
		c, err := LoadEventClock(deadline(t), pump07, bucket)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const began = 1780000000000
	now := time.UnixMilli(began)
	taken := func(ms int64) Message { return Message{Received: time.UnixMilli(ms)} }
	stamped := func(ms int64) Message { return Message{Received: time.UnixMilli(ms + 3), Stamp: ms} }
	c := load()
	// Four come in one millisecond, the fifth after the clock has jumped back; the sixth has its own.
	events := []Message{taken(began), taken(began), taken(began), taken(began), taken(began - 3600_000), stamped(began + 2), stamped(began + 20)}
	for i, m := range events {
		ms, keep := c.Stamp(m, now.Add(10*time.Millisecond))
		want := int64(began + i)
		if i == 6 {
			want = began + 20
		}
		if ms != want || !keep {
			t.Errorf("event %d: %d, %v, want %d, saved", i, ms, keep, want)
		}
	}
	saved := make(chan struct{})
	c.Save(deadline(t), began+2, func() { close(saved) }) // the cloud has three
	<-saved
	c = load()
	for i, m := range events[3:6] {
		if ms, _ := c.Stamp(m, now); ms != int64(began+3+i) {
			t.Errorf("event %d, after a restart: %d, want the same", 3+i, ms)
		}
	}
	if ms, keep := c.Stamp(stamped(began+20), now.Add(time.Hour)); ms != began+20 || keep {
		t.Errorf("its own: %d, saved %v", ms, keep)
	}
}
