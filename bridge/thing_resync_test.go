package bridge

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fleetbridge/mapping"
)

// A GET that fails is tried again until it works, and the status says so.
func TestShadowBecomesKnownWhenTheAPIIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := wide()
		api := &scriptedAPI{answer: func(_ context.Context, n int) (string, error) {
			if n <= 2 {
				return "", errors.New("no route to host")
			}
			return shadowDocument(3, `{"rpm":1}`), nil
		}}
		r := run(t, func(p *Ports) { p.API, p.Down = api, down })
		if s := r.Status.Status(); s.Shadow != ShadowUnknown || !strings.Contains(s.LastError, "no route to host") {
			t.Errorf("after the failed GET: %+v", s)
		}
		time.Sleep(20 * time.Second) // 5 s, then 10 s
		synctest.Wait()
		if s := r.Status.Status(); s.Shadow != ShadowKnown {
			t.Errorf("after %d GETs: %+v", api.n.Load(), s)
		}
		if got := down.versions(); api.n.Load() != 3 || !slices.Equal(got, []int64{3}) {
			t.Errorf("%d GETs, programs saw %v", api.n.Load(), got)
		}
		r.end(t)
	})
}

// A pending delta that could not be stored comes with the next connection.
func TestPendingDeltaWhoseStoringFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := &narrowSink{room: make(chan struct{})}
		api := &scriptedAPI{answer: func(context.Context, int) (string, error) { return shadowDocument(3, `{"rpm":1}`), nil }}
		thing := newThing(t, func(p *Ports) { p.API, p.Down = api, down })
		connection, cut := context.WithTimeout(t.Context(), time.Second)
		defer cut()
		thing.Ready(connection, true)
		close(down.room)
		thing.Ready(t.Context(), true)
		if got := down.versions(); !slices.Equal(got, []int64{3}) {
			t.Errorf("programs saw %v, want 3", got)
		}
	})
}

// What the HTTP API said is of yesterday as soon as the connection is lost.
func TestShadowIsStaleWithoutAConnection(t *testing.T) {
	thing := newThing(t, func(p *Ports) {
		p.API = &scriptedAPI{answer: func(context.Context, int) (string, error) { return shadowDocument(3, `{}`), nil }}
	})
	connected := func(is bool) { thing.Connected(t.Context(), func(s *Status) { s.Connected = is }) }
	connected(false)
	if s := thing.Status.Status(); s.Shadow != ShadowUnknown {
		t.Errorf("before the first connection: %s", s.Shadow)
	}
	connected(true)
	thing.Ready(t.Context(), true)
	if s := thing.Status.Status(); s.Shadow != ShadowKnown {
		t.Fatalf("after the GET: %s", s.Shadow)
	}
	connected(false)
	if s := thing.Status.Status(); s.Shadow != ShadowStale {
		t.Errorf("after the connection was lost: %s", s.Shadow)
	}
}

// Trap T13 without the HTTP API: versions that begin anew are heard with the next new session, not with a kept one.
func TestT13NewSessionWithoutTheAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := wide()
		r := run(t, func(p *Ports) { p.Down = down })
		feed := func(version int) {
			r.cloud.feed <- arriving(mapping.ShadowDelta, "", string(delta(version, `{"a":1}`)))
			synctest.Wait()
		}
		feed(500)
		r.Ready(t.Context(), true)
		feed(1)
		r.Ready(t.Context(), false)
		feed(2)
		if got := down.versions(); !slices.Equal(got, []int64{500, 2}) {
			t.Errorf("programs saw %v, want 500, 2", got)
		}
		r.end(t)
	})
}
