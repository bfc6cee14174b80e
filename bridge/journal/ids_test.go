package journal

import (
	"fmt"
	"testing"
)

// Who sends ever new ids forgets his own; what others have sent stays known for the whole window.
func TestIDsHaveShares(t *testing.T) {
	const most, room = maxIDs / 16, maxIDBytes / 16
	small := func() ids {
		d := newIDs()
		d.most, d.room = most, room
		return d
	}
	d, now := small(), int64(1)
	for n := range 100 {
		d.add(fmt.Sprint("quiet ", n), uint64(n), now)
	}
	for n := range 3 * most {
		d.add(fmt.Sprint("loud ", n), uint64(n), now)
	}
	for n := range 100 {
		if got, seen := d.number(fmt.Sprint("quiet ", n), now); !seen || got != uint64(n) {
			t.Fatalf("%d: %d, %v", n, got, seen)
		}
	}
	if n := len(d.numbers); n > most || n < most*3/4 {
		t.Errorf("%d ids are kept", n)
	}
	if _, seen := d.number("loud 0", now); seen {
		t.Error("the oldest of the loud one is kept")
	}
	if _, seen := d.number(fmt.Sprint("loud ", 3*most-1), now); !seen {
		t.Error("the newest of the loud one is forgotten")
	}
	for n := range most {
		d.add(fmt.Sprintf("loud %0500d", n), uint64(n), now)
	}
	if n := len(d.numbers); n > room/500 || n < room/1000 {
		t.Errorf("%d long ids are kept", n)
	}
	if _, seen := d.number("quiet 99", now); !seen {
		t.Error("the quiet one's is forgotten for long ids of another")
	}
	// Many short ones are less than fewer long ones.
	few := small()
	for n := range most / 3 {
		few.add(fmt.Sprint("quiet ", n), uint64(n), now)
	}
	for n := range most {
		few.add(fmt.Sprintf("loud %01000d", n), uint64(n), now)
	}
	if _, seen := few.number("quiet 0", now); !seen || len(few.of["loud"].seen) > len(few.of["quiet"].seen) {
		t.Errorf("of %d quiet ones %d are kept, and %d long ones", most/3, len(few.of["quiet"].seen), len(few.of["loud"].seen))
	}
	// Behind the window nothing is left, whoever asks.
	now += idWindow.Milliseconds() + 1
	if _, seen := d.number("quiet 1", now); seen || len(d.numbers) != 0 || len(d.of) != 0 || d.bytes != 0 {
		t.Errorf("behind the window %d ids of %d are kept", len(d.numbers), len(d.of))
	}
}
