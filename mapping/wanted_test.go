package mapping

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

func TestWanted(t *testing.T) {
	for _, c := range []struct{ desired, reported, state, pending, want string }{
		{`{"n":1,"m":2}`, `{}`, `{"m":2}`, `{}`, `{"m":2}`},
		{`{"n":1}`, `{}`, `{}`, `{}`, `{}`},
		{`{"n":1}`, ``, `{"m":null}`, ``, `{"m":null}`},
		{`{"a":{"b":1,"c":2}}`, `{"a":{"b":1}}`, `{}`, `{}`, `{"a":{"b":1}}`},
		{`{"a":{"b":1,"c":2}}`, `{}`, `{}`, `{}`, `{}`},
		{`{"a":{"b":1,"c":2}}`, `{"a":{}}`, `{}`, `{}`, `{}`},
		{`{"a":{}}`, `{"a":{}}`, `{}`, `{}`, `{"a":{}}`},
		{`{"a":{"b":1,"c":2}}`, `{}`, `{"a":{"b":1}}`, `{}`, `{"a":{"b":1}}`},
		{`{"a":{"b":1}}`, `{}`, `{"a":7}`, `{}`, `{"a":7}`},
		{`{"a":7}`, `{}`, `{"a":{"b": 1}}`, `{}`, `{"a":{"b":1}}`},
		{`{"m":"x"}`, `{"m":"y"}`, `{}`, `{"m":"y"}`, `{"m":"x"}`}, // reported a moment ago: the delta's writer still sees x
		{`{"a":{"b":1,"c":2}}`, `{"a":{"b":9}}`, `{}`, `{"a":{"b":9}}`, `{"a":{"b":1}}`},
		{`{"a":{"b":1}}`, `{"a":7}`, `{"a":{"c":2}}`, `{"a":7}`, `{"a":{"b":1,"c":2}}`},
		{`{"a":1}`, `{"a":1}`, `{}`, `{}`, `{"a":1}`},
		{`{"a":1}`, `{"a":1.0}`, `{"b":2}`, `{}`, `{"a":1,"b":2}`},
		{`{"a":null,"b":null}`, `{"b":1}`, `{}`, `{}`, `{"a":null}`},
		{`{"a":{"n":null}}`, `{}`, `{"a":{}}`, `{}`, `{"a":{}}`},
	} {
		if got := string(Wanted([]byte(c.desired), []byte(c.reported), []byte(c.state), []byte(c.pending))); got != c.want {
			t.Errorf("Wanted(%s, %s, %s, %s) = %s, want %s", c.desired, c.reported, c.state, c.pending, got, c.want)
		}
	}
}

// All that a delta names is desired then, and nothing else is missing.
func FuzzWanted(f *testing.F) {
	f.Add(`{"a":{"b":1,"c":2}}`, `{"a":{"b":9}}`, `{"a":{"d":1}}`)
	f.Add(`{"a":{"b":{}},"c":[1]}`, `{"a":1,"c":[1]}`, `{"c":null}`)
	f.Fuzz(func(t *testing.T, desired, reported, state string) {
		if !ordinary(desired) || !ordinary(reported) || !ordinary(state) {
			return
		}
		s := []byte(state)
		got := Wanted([]byte(desired), []byte(reported), s, nil)
		if rest := Missing(s, got); string(rest) != "{}" {
			t.Errorf("Wanted(%s, %s, %s) = %s lacks %s", desired, reported, state, got, rest)
		}
		if rest := Unconfirmed(Missing(got, []byte(reported)), s); string(rest) != "{}" {
			t.Errorf("Wanted(%s, %s, %s) = %s: %s is missing, and not named", desired, reported, state, got, rest)
		}
	})
}

// A delta is cheap: they come by the thousand.
func TestCostOfWanted(t *testing.T) {
	desired, state := []byte(`{"m":{"x":1,"y":2},"n":"old"}`), []byte(`{"m":{"x":3},"n":"new"}`)
	reported := []byte(`{"m":{"x":0,"y":2},"n":""}`)
	const most = 3
	if n := testing.AllocsPerRun(100, func() { Wanted(desired, reported, state, nil) }); n > most {
		t.Errorf("%.0f allocations a delta, want at most %d", n, most)
	}
}

// An object of many members, in whatever order, costs no more than in proportion.
func TestMembersOutOfOrder(t *testing.T) {
	var up, down strings.Builder
	const most = 5000
	for i := range most {
		fmt.Fprintf(&up, `,"k%d":%d`, i, i)
		fmt.Fprintf(&down, `,"k%d":%d`, most-1-i, most-1-i)
	}
	a, b := []byte("{"+up.String()[1:]+"}"), []byte("{"+down.String()[1:]+"}")
	if rest := Missing(a, b); string(rest) != "{}" {
		t.Errorf("%d bytes are missing", len(rest))
	}
	if got := Merge(a, b); !bytes.Equal(got, a) {
		t.Error("merging the same members in another order changes something")
	}
	m := membersOf(gjson.ParseBytes(b))
	for i := range most {
		if v, ok := m.find(fmt.Sprint("k", i)); !ok || v.Int() != int64(i) {
			t.Fatalf("k%d: %v, %v", i, v, ok)
		}
	}
	if m.index == nil {
		t.Error("members were searched one by one")
	}
}
