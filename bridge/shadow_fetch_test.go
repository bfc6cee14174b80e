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
	if _, err := whole(s, []byte(`{"state":{"reported":{"a":1,"gone":null}}}`), 1<<20); err != nil {
		t.Fatal(err)
	}
	fetched(s, []byte(`{"reported":{"gone":2},"desired":{},"delta":{},"version":3}`))
	got, err := whole(s, []byte(`{"state":{"reported":{"b":2}}}`), 1<<20)
	if want := `{"state":{"reported":{"a":1,"b":2}}}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

// Without reports of its own the bridge takes over the cloud's; and what was reported and the cloud has not confirmed
// lies on top of that, as_sent or not.
func TestReportedFromAGet(t *testing.T) {
	body := []byte(`{"reported":{"c":3},"desired":{},"delta":{},"version":3}`)
	s := newShadow(t, newMemory(), archive{})
	fetched(s, body)
	if got, err := whole(s, []byte(`{"state":{"reported":{"b":2}}}`), 1<<20); err != nil || string(got) != `{"state":{"reported":{"c":3,"b":2}}}` {
		t.Errorf("merged: %s, %v", got, err)
	}
	s, err := LoadShadow(deadline(t), ShadowConfig{Thing: pump07}, newMemory(), archive{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := whole(s, []byte(`{"state":{"reported":{"a":1}}}`), 1<<20); err != nil {
		t.Fatal(err)
	}
	fetched(s, body)
	if got := gjson.GetBytes(s.Document(), "reported").Raw; got != `{"c":3,"a":1}` {
		t.Errorf("as_sent: %s", got)
	}
}

// Trap T13, for desired pushes: a Thing that was created anew is heard again, after a new session and after
// a GET; a GET that is not older than the last push changes nothing.
func TestT13PushesRestart(t *testing.T) {
	for name, restart := range map[string]func(*Shadow){
		"new session": (*Shadow).NewSession,
		"GET":         func(s *Shadow) { fetched(s, []byte(`{"reported":{},"desired":{},"delta":{},"version":1}`)) },
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
	fetched(s, []byte(`{"reported":{},"desired":{"a":1},"delta":{},"version":5}`))
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
	check("push", "3", `{"a":1,"b":{"c":2}}`, `{"a":1,"b":{"c":2}}`)
	s.Delta(delta(7, `{"a":1,"b":{"c":2,"d":3}}`))
	check("a delta that knows more", "7", `{"a":1,"b":{"c":2,"d":3}}`, `{"a":1,"b":{"c":2,"d":3}}`)
	s.Desired(push("5", `{"a":9,"e":{"f":1}}`))
	check("a push that is older than the delta", "7", `{"a":1,"b":{"c":2,"d":3},"e":{"f":1}}`, `{"a":1,"b":{"c":2,"d":3},"e":{"f":1}}`)
	s.Delta(delta(8, `{"a":1,"b":{"d":3}}`))
	check("a delta that names less: it was withdrawn", "8", `{"a":1,"b":{"d":3}}`, `{"a":1,"b":{"d":3}}`)
	reports(t, s, `{"a":1.0,"b":{"d":4}}`)
	check("a report", "8", `{"a":1,"b":{"d":3}}`, `{"b":{"d":3}}`)
	s.Delta(delta(9, `{}`))
	check("a delta whose writer may not have the report", "9", `{"a":1,"b":{"d":3}}`, `{"b":{"d":3}}`)
	s.Desired(push("10", `{"a":null}`))
	check("a push that withdraws", "10", `{"b":{"d":3}}`, `{"b":{"d":3}}`)
	s.Desired(push("11", `null`))
	check("desired null", "11", `{}`, `{}`)
	s.Desired(push("12", `{"x":1}`))
	s.Desired(push("13", `{}`))
	check("desired {}", "13", `{}`, `{}`)
	s.Desired(push("14", `{"x":[1,2]}`))
	reports(t, s, `{"x":[1]}`)
	check("an array counts as a whole", "14", `{"x":[1,2]}`, `{"x":[1,2]}`)
	reports(t, s, `{"x":[1,2]}`)
	check("the same array", "14", `{"x":[1,2]}`, `{}`)
	s.Desired(push("15", `{"x":[3]}`))
	s.Delta(delta(16, `null`))
	check("delta null, on a report on its way", "16", `{"x":[3]}`, `{"x":[3]}`)
	fetched(s, []byte(`{"reported":null,"desired":null,"delta":{"z":1},"version":2}`))
	check("GET of a Thing that was created anew", "2", `{"z":1}`, `{"z":1}`)
}

// Trap T12: a delta that came from a GET is the first round of its loop.
func TestT12LoopThatBeginsWithAGet(t *testing.T) {
	s := newShadow(t, newMemory(), archive{})
	if fetched(s, []byte(`{"reported":{},"desired":{"rpm":9999},"delta":{"rpm":9999},"version":1}`)) == nil {
		t.Fatal("the fetched delta is not delivered")
	}
	delivered := 0
	for version := 2; version < 20; version++ {
		if _, err := whole(s, []byte(`{"state":{"reported":{"rpm":3000}}}`), 1<<20); err != nil {
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
	if fetched(s, body) == nil {
		t.Fatal("version 6 is news")
	}
	s.Undelivered()
	if s.Delta(delta(4, `{"a":4}`)) || s.Delta(delta(5, `{"a":5}`)) {
		t.Error("what is older than version 6, or was delivered, passed")
	}
	if fetched(s, body) == nil {
		t.Error("version 6 is taken for delivered")
	}
}
