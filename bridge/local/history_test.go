package local

import (
	"fmt"
	"testing"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// A cloud that invents ids makes subjects. Beyond a number the older half of the history goes, the newest stays.
func TestHistoryHasFewSubjects(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	send := func(id string) {
		down(t, r, bridge.Message{Address: mapping.Address{Thing: "pump", Channel: mapping.CommandRequest, ID: id}, Payload: []byte(`{}`)})
	}
	h := newHistory(r.store.down, func() int { return 40 * (subjectCost + subjectCopies*30) }, r.journal.log())
	defer h.close()
	for n := range 100 {
		send(fmt.Sprint("e-", n))
	}
	r.journal.forgive("more subjects than there is memory for")
	before, after, err := h.trim(testContext(t), 30)
	if err != nil || before != 100 || after > 40 || after < 20 {
		t.Fatalf("%d subjects of %d are left: %v", after, before, err)
	}
	if _, err := r.store.Last(testContext(t), mapping.Address{Thing: "pump", Channel: mapping.CommandRequest, ID: "e-99"}); err != nil {
		t.Errorf("the newest message: %v", err)
	}
	// Longer ones are fewer.
	if _, fewer, err := h.trim(testContext(t), 700); err != nil || fewer > 8 || fewer == 0 {
		t.Errorf("%d long subjects are left: %v", fewer, err)
	}
	// The same subject over and over is no reason to delete anything.
	for range 50 {
		send("e-99")
	}
	if before, again, err := h.trim(testContext(t), 30); err != nil || again != before {
		t.Errorf("of %d subjects %d are left: %v", before, again, err)
	}
}
