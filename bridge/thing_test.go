package bridge

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"fleetbridge/mapping"
)

// slowAPI answers when it is told to.
type slowAPI chan struct{}

func (a slowAPI) Shadow(ctx context.Context, _ mapping.Thing) ([]byte, error) {
	<-a
	return nil, ctx.Err()
}

// quietCloud is a session that has nothing to tell.
type quietCloud struct {
	feed
	sink
}

// TestReadyOfALostConnection: what was begun for one connection does not open the gate for the next, on which
// no GET has told yet what is stale.
func TestReadyOfALostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, api := newMemory(), make(slowAPI)
		thing, err := NewThing(t.Context(), ThingConfig{Thing: pump07, Instance: "x"}, Ports{
			Cloud: &quietCloud{feed: make(feed)}, Down: &sink{}, Graveyard: &graveyard{}, Archive: archive{}, Outbox: &outbox{}, API: api,
			Shadows: b, Statuses: newMemory(), Executions: b, Leases: b, Marks: newMemory(), Catalog: catalog(t), Observer: &fates{}, Now: time.Now, Log: quiet(),
		})
		if err != nil {
			t.Fatal(err)
		}
		connected := func(is bool) { thing.Connected(t.Context(), func(s *Status) { s.Connected = is }) }
		connected(true)
		connection, cut := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { thing.Ready(connection, true); close(ended) }()
		synctest.Wait()
		cut() // as cloud.Session does it: first the connection's context, then the state
		connected(false)
		connected(true)
		close(api)
		<-ended
		if !thing.gate.shut(nil) {
			t.Error("the gate is open")
		}
	})
}
