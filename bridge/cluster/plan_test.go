package cluster

import (
	"fmt"
	"slices"
	"testing"
)

// The shares are even, and when a member comes or goes, no more moves than has to.
func TestPlan(t *testing.T) {
	for _, shards := range []int{1, 4, 64} {
		var owners = make([]string, shards)
		for _, members := range [][]string{{"a"}, {"a", "b"}, {"a", "b", "c"}, {"b", "c"}, {"b", "c", "d", "e", "f"}, {"f"}, {}} {
			was := slices.Clone(owners)
			for p, o := range was {
				if !slices.Contains(members, o) {
					was[p] = ""
				}
			}
			now := plan(was, members)
			has, moved, free := map[string]int{}, 0, 0
			for p, o := range now {
				has[o]++
				if was[p] == "" {
					free++
				} else if was[p] != o {
					moved++
				}
			}
			least := shards / max(len(members), 1)
			for _, m := range members {
				if has[m] < least || has[m] > least+1 {
					t.Errorf("%d shards of %v: %v", shards, members, has)
				}
			}
			newcomers := 0
			for _, m := range members {
				if !slices.Contains(was, m) {
					newcomers++
				}
			}
			if most := max(0, newcomers*(least+1)-free); len(members) > 0 && moved > most {
				t.Errorf("%d shards: %d move to %v though %d would do", shards, moved, members, most)
			}
			if again := plan(now, members); !slices.Equal(again, now) {
				t.Errorf("%d shards of %v move once more", shards, members)
			}
			owners = now
		}
	}
}

// Without a word from anybody two bridges agree on who claims what.
func TestPlanOfNothing(t *testing.T) {
	owned := map[string]int{}
	for i := range 200 {
		owned[plan([]string{""}, []string{fmt.Sprint("a", i), fmt.Sprint("b", i)})[0][:1]]++
	}
	if owned["a"] < 60 || owned["b"] < 60 {
		t.Errorf("of 200 pairs one has %v", owned)
	}
}
