package bridge

import (
	"fmt"
	"testing"
	"time"

	"fleetbridge/mapping"
)

// A delta is read once, and where it lies.
func TestDeltaOf(t *testing.T) {
	for _, c := range []struct {
		payload, state, timestamp string
		version                   int64
	}{
		{`{"version":7,"state":{"a":1},"timestamp":1700000000}`, `{"a":1}`, "1700000000", 7},
		{" \n{ \"timestamp\" : \"x\" , \"state\" :\t{\"a\": {\"state\":2}} , \"version\" : 8 } ", `{"a": {"state":2}}`, `"x"`, 8},
		{`{"st\u0061te":{},"metadata":{"version":3}}`, `{}`, "", 0},
		{`{"version":1,"version":2,"state":1,"state":2}`, `1`, "", 1},
		{`[{"version":1}]`, "", "", 0},
		{`7`, "", "", 0},
		{``, "", "", 0},
	} {
		version, state, timestamp := deltaOf([]byte(c.payload))
		if version != c.version || state.Raw != c.state || timestamp.Raw != c.timestamp {
			t.Errorf("%s: version %d, state %s, timestamp %s", c.payload, version, state.Raw, timestamp.Raw)
		}
		if got := c.payload[state.Index : state.Index+len(state.Raw)]; got != c.state {
			t.Errorf("%s: the state lies at %q", c.payload, got)
		}
	}
}

// Deltas come by the thousand.
func TestCostOfDelta(t *testing.T) {
	s := &Shadow{now: time.Now}
	payloads := make([][]byte, 300)
	for i := range payloads {
		payloads[i] = fmt.Appendf(nil, `{"version":%d,"state":{"mode":"eco","target":{"value":%d,"unit":"C"}},"timestamp":%d}`, i+1, i, 1700000000+i)
	}
	n := 0
	at := testing.AllocsPerRun(len(payloads)-1, func() {
		if !s.Delta(payloads[n]) {
			t.Errorf("delta %d is not news", n)
		}
		n++
	})
	const most = 6
	if at > most {
		t.Errorf("%.0f allocations a delta, want at most %d", at, most)
	}
	if got := string(mapping.Missing(s.desired, nil)); got != `{"mode":"eco","target":{"value":299,"unit":"C"}}` {
		t.Errorf("desired %s", got)
	}
}
