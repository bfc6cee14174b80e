package mapping

import "testing"

func TestShadowGet(t *testing.T) {
	s, err := NewSubjects("site.a")
	if err != nil {
		t.Fatal(err)
	}
	for thing, want := range map[Thing]string{"pump-07": "site.a.req.pump-07.shadow.get", "com.acme.pump 7": "site.a.req.com=2Eacme=2Epump=207.shadow.get"} {
		if got := s.ShadowGet(thing); got != want {
			t.Errorf("%s: %s, want %s", thing, got, want)
		}
		if back, err := s.ParseShadowGet(want); back != thing || err != nil {
			t.Errorf("%s: %q, %v", want, back, err)
		}
	}
	if got, want := s.EveryShadowGet(), "site.a.req.*.shadow.get"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, none := range []string{"", "site.a.req.shadow.get", "fleets.req.p.shadow.get", "site.a.up.p.shadow.get", "site.a.req.p.jobs.get", "site.a.req.a.b.shadow.get", "site.a.req.=2e.shadow.get"} {
		if thing, err := s.ParseShadowGet(none); err == nil {
			t.Errorf("%q is the subject of %q", none, thing)
		}
	}
}

// What goes into each message is made in one piece.
func TestCostOfPrinting(t *testing.T) {
	s := subjects(t)
	for _, a := range []Address{{"pump-07", ShadowDelta, ""}, {"pump-07", CommandRequest, "6f0c9c1e"}} {
		for what, f := range map[string]func(){
			"topic": func() { _ = a.Topic() }, "tail": func() { _ = a.Tail() },
			"subject": func() { _ = s.Print(SpaceDown, a) }, "internal subject": func() { _ = s.Store(SpaceDown, a) },
		} {
			if n := testing.AllocsPerRun(100, f); n > 1 {
				t.Errorf("%s of %v: %.0f allocations, want 1", what, a, n)
			}
		}
	}
}
