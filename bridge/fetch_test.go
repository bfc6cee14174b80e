package bridge

import (
	"context"
	"strings"
	"testing"
	"time"

	"fleetbridge/mapping"
)

type documentAPI string

func (a documentAPI) Shadow(context.Context, mapping.Thing) ([]byte, error) { return []byte(a), nil }

// TestFetchedDeltaThatNATSRefuses: a delta that could not be stored is no delivered one, and somebody hears of it.
func TestFetchedDeltaThatNATSRefuses(t *testing.T) {
	b, refusing := newMemory(), &sink{err: Rejectf(CodeTooLarge, "the message has 9 bytes, NATS takes 8")}
	cloud := struct {
		feed
		*sink
	}{make(feed), &sink{}}
	thing, err := NewThing(t.Context(), ThingConfig{Thing: pump07, Instance: "x"}, Ports{
		Cloud: cloud, Down: refusing, Graveyard: &graveyard{}, Archive: archive{}, Outbox: &outbox{},
		API:     documentAPI(`{"reported":{},"desired":{"rpm":1},"delta":{"rpm":1},"version":3,"updatedAt":"2026-01-01T00:00:00Z"}`),
		Shadows: b, Statuses: newMemory(), Executions: b, Leases: b, Marks: newMemory(), Catalog: catalog(t), Observer: &fates{}, Now: time.Now, Log: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	thing.Ready(t.Context(), true)
	if s := thing.Status.Status(); s.Shadow == ShadowKnown || !strings.Contains(s.LastError, "NATS takes 8") {
		t.Errorf("status %+v", s)
	}
	refusing.mu.Lock()
	refusing.err = nil
	refusing.mu.Unlock()
	thing.Ready(t.Context(), true)
	if n := len(refusing.messages()); n != 2 {
		t.Errorf("the delta was sent %d times, want 2", n)
	}
}
