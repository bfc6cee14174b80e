package cloud

import (
	"testing"

	"fleetbridge/bridge"
)

// A reader that stays ahead of who takes costs no new memory for each message, and the order is kept.
func TestInboxOfAReaderAhead(t *testing.T) {
	const ahead, all = 1000, 50_000
	b := newInbox(NewBudget(1 << 20))
	held, put, taken, largest := &holding{}, 0, 0, 0
	for put < all || taken < put {
		for put < all && put-taken < ahead {
			b.put(item{held: held, delivery: bridge.Delivery{Message: bridge.Message{Sequence: uint64(put)}}})
			put++
			largest = max(largest, cap(b.items))
		}
		for _, d := range b.next(takeMost) {
			if d.Sequence != uint64(taken) {
				t.Fatalf("delivery %d comes as number %d", d.Sequence, taken)
			}
			taken++
		}
	}
	if largest > 4*ahead {
		t.Errorf("room for %d, though never more than %d wait", largest, ahead)
	}
	for n := range ahead { // as after the rush
		b.put(item{held: held, delivery: bridge.Delivery{Message: bridge.Message{Sequence: uint64(n)}}})
	}
	next := uint64(0)
	turn := func() {
		for _, d := range b.next(takeMost) {
			if d.Sequence != next {
				t.Fatalf("delivery %d, want %d", d.Sequence, next)
			}
			next++
			b.put(item{held: held, delivery: bridge.Delivery{Message: bridge.Message{Sequence: next - 1 + ahead}}})
		}
	}
	for range ahead {
		turn()
	}
	if n := testing.AllocsPerRun(10*ahead/takeMost, turn); n > 0 {
		t.Errorf("%.0f allocations for %d messages", n, takeMost)
	}
}

// What the broker is about to bring again is forgotten, and nothing else, wherever it stands.
func TestInboxPurge(t *testing.T) {
	const all = 40
	b := newInbox(NewBudget(1 << 20))
	for n := range all {
		b.put(item{held: &holding{memory: b.memory}, session: n % 2, delivery: bridge.Delivery{Message: bridge.Message{Sequence: uint64(n)}}})
	}
	if got := len(b.next(takeMost)); got != takeMost {
		t.Fatalf("took %d", got)
	}
	b.purge(1)
	want := uint64(takeMost)
	for _, d := range b.next(all) {
		if d.Sequence != want {
			t.Errorf("delivery %d, want %d", d.Sequence, want)
		}
		want += 2
	}
	if want != all {
		t.Errorf("the last is %d", want-2)
	}
}
