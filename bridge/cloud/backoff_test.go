package cloud

import (
	"errors"
	"testing"
	"time"
)

func TestPauses(t *testing.T) {
	rules := Backoff{Min: 500 * time.Millisecond, Max: 8 * time.Second, Takeover: 30 * time.Second}
	const s = time.Second
	worked := func(lived time.Duration) ending {
		return ending{cause: errHungUp, lived: lived, subscribed: true, acked: 3, flying: 2}
	}
	with := func(code byte, change func(*ending)) ending {
		e := worked(s)
		e.said = &brokerError{packet: "DISCONNECT", code: code}
		if change != nil {
			change(&e)
		}
		return e
	}
	noSuback := ending{cause: errors.New("no SUBACK"), lived: 10 * s}
	noPuback := ending{cause: errors.New("no PUBACK"), lived: 30 * s, subscribed: true, flying: 1, cost: 8 << 10}
	costly := noPuback
	costly.cost = 150 * 400
	mute := ending{cause: stall("silent"), lived: 20 * s, kept: true}
	tested := noPuback
	tested.tested, tested.lived = true, s
	elsewhere := noSuback
	elsewhere.another = true
	away, refuses := errors.New("no route"), &serverError{errors.New("CONNACK 0x88")}
	type step struct {
		what any // an ending of a connection, or an error of an attempt
		most time.Duration
	}
	row := func(what any, most ...time.Duration) (out []step) {
		for _, m := range most {
			out = append(out, step{what, m})
		}
		return out
	}
	ms := time.Millisecond
	for name, steps := range map[string][][]step{
		"network away":                     {row(away, 500*ms, s, 2*s, 4*s, 8*s, 8*s)},
		"refused by a server":              {row(refuses, 500*ms, s, 2*s, 4*s, 8*s, 16*s, 32*s, 60*s, 60*s)},
		"lost at once":                     {row(worked(s), 500*ms, 500*ms, 500*ms, s, 2*s, 4*s, 8*s, 8*s)},
		"a twin that pauses as we do":      {row(worked(8*s), 500*ms, 500*ms, 500*ms, s, 2*s, 4*s, 8*s, 8*s)},
		"a link that is cut now and then":  {row(worked(s), 500*ms, 500*ms, 500*ms, s), row(worked(25*s), 500*ms, 500*ms)},
		"no SUBACK":                        {row(noSuback, 500*ms, s, 2*s, 4*s, 8*s, 16*s, 32*s, 64*s, 128*s, 256*s, 512*s, 600*s, 600*s)},
		"no PUBACK":                        {row(noPuback, 500*ms, s)},
		"nothing behind CONNACK":           {row(mute, 40*s, 80*s, 160*s, 320*s, 600*s, 600*s), row(worked(25*s), 500*ms), row(mute, 40*s)},
		"idle and cut":                     {row(ending{cause: errHungUp, subscribed: true, lived: s}, 500*ms, 500*ms, 500*ms, s)},
		"barren, but the network was away": {row(noSuback, 500*ms, s, 2*s, 4*s), row(away, 500*ms), row(noSuback, 500*ms)},
		"barren, then it works":            {row(noSuback, 500*ms, s, 2*s, 4*s), row(worked(s), 2*s), row(worked(25*s), 500*ms)},
		"another server":                   {row(elsewhere, 500*ms, 500*ms), row(noSuback, 500*ms), row(elsewhere, 500*ms), row(noSuback, s)},
		"accused":                          {row(with(0x87, nil), 500*ms, s, 2*s, 4*s, 8*s, 16*s, 32*s, 64*s, 128*s, 256*s, 300*s)},
		"accused, and found out":           {row(with(0x95, nil), 500*ms, s, 2*s), row(with(0x95, func(e *ending) { e.blamed = true }), s)},
		"a suspect tried":                  {row(noPuback, 500*ms, s), row(tested, 500*ms, 500*ms, 500*ms, 500*ms), row(noPuback, 2*s)},
		"not about a packet":               {row(with(0x8B, nil), 500*ms, 500*ms, 500*ms, s)},
	} {
		p := pauses{rules: rules}
		for _, steps := range steps {
			for i, st := range steps {
				var d time.Duration
				switch w := st.what.(type) {
				case ending:
					d = p.lost(w)
				case *serverError:
					d = p.refused(true)
				case error:
					d = p.refused(false)
				}
				if d < st.most/2 || d > st.most {
					t.Errorf("%s: pause %d is %v, want %v to %v", name, i+1, d, st.most/2, st.most)
				}
			}
		}
	}
	p := pauses{rules: rules}
	p.lost(costly) // within the burst
	last := p.last
	if d := p.lost(costly); d < 400*s-(last+costly.lived+costBurst/costRate*s) || d > 400*s {
		t.Errorf("what it costs is spread over %v", d)
	}
	p.lost(costly)
	if d := p.lost(costly); d < 350*s {
		t.Errorf("what it costs after that is spread over %v", d)
	}
	p = pauses{rules: rules}
	for _, least := range []time.Duration{30 * s, 60 * s, 120 * s, 240 * s, 480 * s, 600 * s, 600 * s} {
		if d := p.lost(with(takenOver, nil)); d < least || d > least*3/2 {
			t.Errorf("taken over: %v, want %v or half as much again", d, least)
		}
	}
	if d := p.lost(with(takenOver, func(e *ending) { e.lived = 2 * time.Hour })); d > 45*s {
		t.Errorf("taken over long after: %v", d)
	}
}
