package wire

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// TestShortID: what the server keeps of an id is bounded, and different for different ids.
func TestShortID(t *testing.T) {
	long := strings.Repeat("x", 40_000)
	seen := map[string]bool{}
	for _, id := range []string{"a", long, long + "y", long[1:], strings.Repeat("x", longestID)} {
		short := ShortID(id)
		if len(short) > longestID || seen[short] || WellFormed("Nats-Msg-Id", []string{short}) != nil {
			t.Errorf("%.20q (%d bytes) becomes %q", id, len(id), short)
		}
		seen[short] = true
	}
	if short := ShortID(nats.NewInbox()); strings.HasPrefix(short, "sha256") {
		t.Error(short)
	}
}
