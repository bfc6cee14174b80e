package local

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"fleetbridge/mapping"
)

// TestPendingIsSmall: responses that wait with the longest ids there are cost little memory each.
func TestPendingIsSmall(t *testing.T) {
	const n = 20_000
	h := newHouse(nil, subjects(t), 1, newJournal(t).log())
	h.pending = true
	l := h.lane(keyOf("pump", mapping.Commands))
	subject := func(i int) string {
		return fmt.Sprint("fleets.up.pump.commands.", i, strings.Repeat("=C3=A9", 128), ".response")
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range n {
		l.note(uint64(i+1), subject(i))
	}
	if after := heap(); after > before+n*200 {
		t.Errorf("each takes %d bytes", (after-before)/n)
	}
	if s := (&Spool{house: h}); !s.isPending(l, subject(n-1)) || s.isPending(l, subject(n)) {
		t.Error("what waits is not known")
	}
}
