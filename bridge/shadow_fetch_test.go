package bridge

import (
	"testing"

	"github.com/tidwall/gjson"
)

func push(version, desired string) []byte {
	return []byte(`{"state":{"desired":` + desired + `},"version":` + version + `}`)
}

// Trap T14: what was reported and is still on its way is not in the GET's answer, and is in the next report.
func TestT14ReportsOutliveAGet(t *testing.T) {
	s := newShadow(t, newMemory(), archive{})
	if _, err := s.Report([]byte(`{"state":{"reported":{"a":1,"gone":null}}}`), 1<<20); err != nil {
		t.Fatal(err)
	}
	s.Fetched([]byte(`{"reported":{"gone":2},"desired":{},"delta":{},"version":3}`))
	got, err := s.Report([]byte(`{"state":{"reported":{"b":2}}}`), 1<<20)
	if want := `{"state":{"reported":{"a":1,"b":2}}}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

// Without reports of its own the bridge takes over the cloud's; and as_sent keeps none of its own.
func TestReportedFromAGet(t *testing.T) {
	body := []byte(`{"reported":{"c":3},"desired":{},"delta":{},"version":3}`)
	s := newShadow(t, newMemory(), archive{})
	s.Fetched(body)
	if got, err := s.Report([]byte(`{"state":{"reported":{"b":2}}}`), 1<<20); err != nil || string(got) != `{"state":{"reported":{"c":3,"b":2}}}` {
		t.Errorf("merged: %s, %v", got, err)
	}
	s, err := LoadShadow(deadline(t), pump07, false, newMemory(), archive{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Report([]byte(`{"state":{"reported":{"a":1}}}`), 1<<20); err != nil {
		t.Fatal(err)
	}
	s.Fetched(body)
	if got := gjson.GetBytes(s.Document(), "reported").Raw; got != `{"c":3}` {
		t.Errorf("as_sent: %s", got)
	}
}

// Trap T13, for desired pushes: a Thing that was created anew is heard again, after a new session and after
// a GET; a GET that is not older than the last push changes nothing.
func TestT13PushesRestart(t *testing.T) {
	for name, restart := range map[string]func(*Shadow){
		"new session": (*Shadow).NewSession,
		"GET":         func(s *Shadow) { s.Fetched([]byte(`{"reported":{},"desired":{},"delta":{},"version":1}`)) },
	} {
		s := newShadow(t, newMemory(), archive{})
		if !s.Desired(push("500", `{"a":1}`)) || s.Desired(push("2", `{"a":2}`)) {
			t.Fatalf("%s: the versions don't count before it", name)
		}
		restart(s)
		if !s.Desired(push("2", `{"a":2}`)) {
			t.Errorf("%s: the Thing stays mute", name)
		}
		if s.Desired(push("2", `{"a":2}`)) || s.Desired(push("1", `{"a":2}`)) {
			t.Errorf("%s: the versions don't count after it", name)
		}
	}
	s := newShadow(t, newMemory(), archive{})
	s.Desired(push("5", `{"a":1}`))
	s.Fetched([]byte(`{"reported":{},"desired":{"a":1},"delta":{},"version":5}`))
	if s.Desired(push("5", `{"a":1}`)) {
		t.Error("a push that was delivered is delivered again after a GET")
	}
}

// The document follows what comes, and its version never goes down but by a GET.
func TestDocumentFollows(t *testing.T) {
	s := newShadow(t, newMemory(), archive{})
	check := func(what, version, desired, delta string) {
		t.Helper()
		d := gjson.ParseBytes(s.Document())
		if got := [3]string{d.Get("version").Raw, d.Get("desired").Raw, d.Get("delta").Raw}; got != [3]string{version, desired, delta} {
			t.Errorf("%s: %s", what, d.Raw)
		}
	}
	s.Desired(push("3", `{"a":1,"b":{"c":2}}`))
	check("push", "3", `{"a":1,"b":{"c":2}}`, `{}`)
	s.Delta(delta(7, `{"a":1}`))
	check("delta", "7", `{"a":1,"b":{"c":2}}`, `{"a":1}`)
	s.Desired(push("5", `{"b":{"c":null}}`))
	check("a push that is older than the delta", "7", `{"a":1,"b":{}}`, `{"a":1}`)
	s.Desired(push("8", `null`))
	check("desired null", "8", `{}`, `{"a":1}`)
	s.Desired(push("9", `{"x":1}`))
	s.Desired(push("10", `{}`))
	check("desired {}", "10", `{}`, `{"a":1}`)
	s.Delta(delta(11, `null`))
	check("delta null", "11", `{}`, `{}`)
	s.Fetched([]byte(`{"reported":null,"desired":null,"delta":{"z":1},"version":2}`))
	check("GET of a Thing that was created anew", "2", `{}`, `{"z":1}`)
}

// Trap T12: a delta that came from a GET is the first round of its loop.
func TestT12LoopThatBeginsWithAGet(t *testing.T) {
	s := newShadow(t, newMemory(), archive{})
	if s.Fetched([]byte(`{"reported":{},"desired":{"rpm":9999},"delta":{"rpm":9999},"version":1}`)) == nil {
		t.Fatal("the fetched delta is not delivered")
	}
	delivered := 0
	for version := 2; version < 20; version++ {
		if _, err := s.Report([]byte(`{"state":{"reported":{"rpm":3000}}}`), 1<<20); err != nil {
			t.Fatal(err)
		}
		if s.Delta(delta(version, `{"rpm":9999}`)) {
			delivered++
		}
	}
	if delivered != loopFree {
		t.Errorf("%d rounds after the GET's were delivered at once, want %d", delivered, loopFree)
	}
}

// A fetched delta that could not be stored comes with the next GET, and what was delivered before it does
// not come again meanwhile.
func TestUndelivered(t *testing.T) {
	s := newShadow(t, newMemory(), archive{})
	body := []byte(`{"reported":{},"desired":{"a":6},"delta":{"a":6},"version":6}`)
	s.Delta(delta(5, `{"a":5}`))
	if s.Fetched(body) == nil {
		t.Fatal("version 6 is news")
	}
	s.Undelivered()
	if s.Delta(delta(4, `{"a":4}`)) || s.Delta(delta(5, `{"a":5}`)) {
		t.Error("what is older than version 6, or was delivered, passed")
	}
	if s.Fetched(body) == nil {
		t.Error("version 6 is taken for delivered")
	}
}
