package door

import (
	"testing"
	"time"
)

// TestBans: a login is kept out after some cuts, longer each time, and nothing is held against it in the end.
func TestBans(t *testing.T) {
	t.Parallel()
	b, now := bans{}, time.Now()
	for i := range cutsPardoned {
		if pause := b.cut("a", now); pause != 0 {
			t.Fatalf("cut %d: out for %v", i, pause)
		}
		now = now.Add(time.Second)
	}
	for _, want := range []time.Duration{leastBan, 2 * leastBan, 4 * leastBan, 8 * leastBan, 16 * leastBan, mostBan, mostBan} {
		if pause := b.cut("a", now); pause != want {
			t.Errorf("out for %v, want %v", pause, want)
		}
		if pause := b.cut("a", now.Add(want/2)); pause != 0 {
			t.Errorf("a cut meanwhile: out for %v", pause)
		}
		if pause := b.cut("b", now); pause > 0 && want == leastBan {
			t.Errorf("another login is out for %v", pause)
		}
		now = now.Add(want)
	}
	if pause := b.cut("a", now.Add(cutForgotten+time.Second)); pause != 0 {
		t.Errorf("long after: out for %v", pause)
	}
}
