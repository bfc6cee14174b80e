package bridge

import (
	"strings"
	"testing"
)

// TestUnreadableRecords: whatever stands in a bucket, also what somebody else has put there, a Thing is made, and says
// what it gives up; records that can be read are kept.
func TestUnreadableRecords(t *testing.T) {
	for _, record := range []string{"", "null", "zz", "[]", "{}\n", `{"id":7}`, `{"id":"other","action":"a"}` + "\n{}", `{"id":"*.>","action":"a"}` + "\n{}", `{"id":"e1","reply":"> *"}` + "\n{}", `{"id":"e1","reply":"a.b"}` + "\n{}"} {
		b := newMemory()
		good := Execution{ID: "e2", Action: "purge", Payload: []byte("{}"), Reply: "R"}
		value, err := good.print()
		if err != nil {
			t.Fatal(err)
		}
		token := "open.pump-07."
		for key, value := range map[string]string{token + "e1": record, token + "e2": string(value), token + "a.b": record, "done.pump-07.e3": record} {
			if err := b.Put(t.Context(), key, []byte(value)); err != nil {
				t.Fatal(err)
			}
		}
		x, left, err := LoadExecutions(t.Context(), pump07, b)
		if err != nil || len(left) != 1 || left[0].ID != "e2" || len(x.damage) != 2 || !strings.Contains(x.damage[0].Error()+x.damage[1].Error(), token+"e1") {
			t.Errorf("%q: %v, %v", record, left, err)
			continue
		}
		if mine, _, err := x.Claim(t.Context(), "e3", 5); mine || err != nil {
			t.Errorf("%q as a claim: mine is %v, %v", record, mine, err)
		}
	}
	for _, record := range []string{"", "null", "abc", "1e3", "9223372036854775808", `"5"`} {
		b := newMemory()
		if err := b.Put(t.Context(), "pump-07", []byte(record)); err != nil {
			t.Fatal(err)
		}
		if c, err := LoadEventClock(t.Context(), pump07, b); err != nil || c.damage == nil || c.given.Last != 0 {
			t.Errorf("clock %q: %v", record, err)
		}
		leases := NewLeases(pump07, b)
		if err := b.Put(t.Context(), leases.key("j"), []byte(record)); err != nil {
			t.Fatal(err)
		}
		if _, held, err := leases.Holder(t.Context(), "j"); held || err != nil {
			t.Errorf("lease %q: held is %v, %v", record, held, err)
		}
		if err := leases.Release(t.Context(), "j"); err != nil {
			t.Errorf("lease %q: %v", record, err)
		}
		if hold, err := leases.Take(t.Context(), "j", Lease{Worker: "w", Execution: 7}); err != nil || hold.Worker != "w" {
			t.Errorf("lease %q: %+v, %v", record, hold, err)
		}
	}
}
