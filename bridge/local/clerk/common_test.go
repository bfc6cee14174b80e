package clerk

import (
	"fmt"
	"testing"
)

// TestCommonIsBounded: few filters and many Things don't make many filters.
func TestCommonIsBounded(t *testing.T) {
	t.Parallel()
	var filters, things []string
	for i := range 300 {
		filters = append(filters, fmt.Sprintf("fleets.down.*.events.e%d", i))
		things = append(things, fmt.Sprintf("fleets.down.t%d.>", i))
	}
	if got := common(filters, things); len(got) != 301 || !tooMany(got, things) {
		t.Errorf("%d filters", len(got))
	}
	if got := common([]string{"fleets.down.>"}, things); len(got) != 300 || tooMany(got, things) {
		t.Errorf("%d filters", len(got))
	}
	if got := fmt.Sprint(common([]string{"fleets.down.>"}, []string{"fleets.down.a.>", "fleets.down.c.>"})); got != "[fleets.down.a.> fleets.down.c.>]" {
		t.Error(got)
	}
}
