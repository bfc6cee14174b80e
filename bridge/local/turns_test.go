package local

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// TestTurns: what is stored together, in which order.
func TestTurns(t *testing.T) {
	t.Parallel()
	message := func(what string) *nats.Msg { // "a1" is small, "a1+" more than a turn
		m := &nats.Msg{Subject: what, Data: make([]byte, 10)}
		if strings.HasSuffix(what, "+") {
			m.Data = make([]byte, turnBytes)
		}
		return m
	}
	for in, want := range map[string]string{
		"": "", "a1": "a1", "a1 a2 b1 a3": "a1 a2 a3 b1", "a1+ a2 b1": "a1+ b1 a2", "a1+ a2+ a3 b1+ b2": "a1+ b1+ a2+ b2 a3",
	} {
		var all turns
		for _, what := range strings.Fields(in) {
			if !all.put(what[:1], message(what), nil) {
				t.Fatal(what)
			}
		}
		var got []string
		for all.count > 0 {
			var group []string
			for _, m := range all.take(nil) {
				group = append(group, m.msg.Subject)
			}
			got = append(got, strings.Join(group, " "))
		}
		if all := strings.Join(got, " | "); all != want {
			t.Errorf("%s: %s, want %s", in, all, want)
		}
		if all.bytes != 0 || len(all.ring) != 0 || len(all.lanes) != 0 {
			t.Errorf("%s: %+v is left", in, all)
		}
	}
}

// TestTurnsGroups: a group is bounded, and everybody is in it.
func TestTurnsGroups(t *testing.T) {
	t.Parallel()
	var all turns
	for n := range 10 * turnsMax {
		all.put("flood", &nats.Msg{Subject: fmt.Sprint(n), Data: make([]byte, 100)}, nil)
	}
	for n := range 20 {
		all.put(fmt.Sprint(n), &nats.Msg{Subject: "other"}, nil)
	}
	group := all.take(nil)
	others := slices.DeleteFunc(slices.Clone(group), func(p parked) bool { return p.msg.Subject != "other" })
	if len(group) != turnsMax || len(others) != 20 {
		t.Errorf("%d in the group, %d of the others", len(group), len(others))
	}
	all = turns{}
	for range 20 {
		all.put("large", &nats.Msg{Data: make([]byte, 1<<20)}, nil)
	}
	if n := len(all.take(nil)); n > 1+turnsBytes>>20 {
		t.Errorf("%d MiB go together", n)
	}
}

// TestTurnsOfMany: who comes beside many who flood is in the next group, with messages of any size that they have.
func TestTurnsOfMany(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, 2000, 5000} {
		var all turns
		for n := range 200 * 100 {
			all.put(fmt.Sprint(n%200), &nats.Msg{Data: make([]byte, size)}, nil)
		}
		all.put("comes", &nats.Msg{Subject: "comes"}, nil)
		if group := all.take(nil); !slices.ContainsFunc(group, func(p parked) bool { return p.msg.Subject == "comes" }) {
			t.Errorf("with %d bytes each: not in a group of %d", size, len(group))
		}
	}
}

// TestTurnsFull: what is more than a share is refused at once, and there is room for who comes next. Headers count as
// payloads do.
func TestTurnsFull(t *testing.T) {
	t.Parallel()
	var all turns
	large := &nats.Msg{Header: nats.Header{"X": {strings.Repeat("x", 1<<20)}}}
	for _, c := range []struct {
		of       string
		at, most int // MiB
	}{{"a", 30, 32}, {"b", 14, 16}, {"c", 6, 8}} {
		n := 0
		for all.put(c.of, large, nil) {
			n++
		}
		if n < c.at || n > c.most {
			t.Errorf("%s has %d MiB waiting", c.of, n)
		}
	}
	all = turns{}
	n := 0
	for all.put("a", &nats.Msg{}, nil) {
		n++
	}
	if n != intakeMessages/2 || !all.put("b", &nats.Msg{}, nil) {
		t.Errorf("%d wait", n)
	}
}
