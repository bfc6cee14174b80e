package journal

import (
	"fmt"
	"testing"
)

// Who sends ever new ids forgets his own; what others have sent stays known for the whole window.
func TestIDsHaveShares(t *testing.T) {
	d, now := newIDs(), int64(1)
	for n := range 1000 {
		d.add(fmt.Sprint("quiet ", n), uint64(n), now)
	}
	for n := range 3 * maxIDs {
		d.add(fmt.Sprint("loud ", n), uint64(n), now)
	}
	for n := range 1000 {
		if got, seen := d.number(fmt.Sprint("quiet ", n), now); !seen || got != uint64(n) {
			t.Fatalf("%d: %d, %v", n, got, seen)
		}
	}
	if n := len(d.numbers); n > maxIDs || n < maxIDs*3/4 {
		t.Errorf("%d ids are kept", n)
	}
	if _, seen := d.number("loud 0", now); seen {
		t.Error("the oldest of the loud one is kept")
	}
	if _, seen := d.number(fmt.Sprint("loud ", 3*maxIDs-1), now); !seen {
		t.Error("the newest of the loud one is forgotten")
	}
	for n := range maxIDs {
		d.add(fmt.Sprintf("loud %0500d", n), uint64(n), now)
	}
	if n := len(d.numbers); n > maxIDBytes/500 || n < maxIDBytes/1000 {
		t.Errorf("%d long ids are kept", n)
	}
	if _, seen := d.number("quiet 999", now); !seen {
		t.Error("the quiet one's is forgotten for long ids of another")
	}
	// Many short ones are less than fewer long ones.
	few := newIDs()
	for n := range maxIDs / 3 {
		few.add(fmt.Sprint("quiet ", n), uint64(n), now)
	}
	for n := range maxIDs {
		few.add(fmt.Sprintf("loud %01000d", n), uint64(n), now)
	}
	if _, seen := few.number("quiet 0", now); !seen || len(few.of["loud"].seen) > len(few.of["quiet"].seen) {
		t.Errorf("of %d quiet ones %d are kept, and %d long ones", maxIDs/3, len(few.of["quiet"].seen), len(few.of["loud"].seen))
	}
	// Behind the window nothing is left, whoever asks.
	now += idWindow.Milliseconds() + 1
	if _, seen := d.number("quiet 1", now); seen || len(d.numbers) != 0 || len(d.of) != 0 || d.bytes != 0 {
		t.Errorf("behind the window %d ids of %d are kept", len(d.numbers), len(d.of))
	}
}
