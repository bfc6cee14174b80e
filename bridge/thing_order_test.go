package bridge

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// scriptedAPI answers GET number n with what the script says; it may wait, but no longer than ctx.
type scriptedAPI struct {
	answer func(ctx context.Context, n int) (string, error)
	n      atomic.Int32
}

func (a *scriptedAPI) Shadow(ctx context.Context, _ mapping.Thing) ([]byte, error) {
	n := int(a.n.Add(1))
	body, err := a.answer(ctx, n)
	return []byte(body), err
}

func shadowDocument(version int, delta string) string {
	return fmt.Sprintf(`{"reported":{},"desired":%s,"delta":%s,"version":%d,"updatedAt":"2026-01-01T00:00:00Z"}`, delta, delta, version)
}

// narrowSink is full until somebody makes room, once, and notes in which order messages went in.
type narrowSink struct {
	room chan struct{}
	mu   sync.Mutex
	sent []int64
}

func (s *narrowSink) Send(ctx context.Context, m Message, done func(error)) error {
	select {
	case <-s.room:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	s.sent = append(s.sent, gjson.GetBytes(m.Payload, "version").Int())
	s.mu.Unlock()
	done(nil)
	return nil
}

func (s *narrowSink) versions() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sent)
}

// running is a Thing that pumps, on a connection that is ready.
type running struct {
	*Thing
	cloud      *quietCloud
	stop, kill context.CancelFunc
	ended      chan error
}

func run(t *testing.T, edit func(*Ports)) *running {
	t.Helper()
	r := &running{cloud: &quietCloud{feed: make(feed, 16)}, ended: make(chan error, 1)}
	r.Thing = newThing(t, func(p *Ports) {
		p.Cloud = r.cloud
		p.Lanes = map[mapping.Kind]Source{mapping.Commands: make(feed), mapping.Jobs: make(feed), mapping.Shadow: make(feed), mapping.Events: make(feed)}
		edit(p)
	})
	var take, work context.Context
	work, r.kill = context.WithCancel(t.Context())
	take, r.stop = context.WithCancel(work)
	go func() { r.ended <- r.Run(take, work) }()
	r.Connected(t.Context(), func(s *Status) { s.Connected = true })
	r.Ready(t.Context(), true)
	return r
}

func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	synctest.Wait()
	r.kill()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

func wide() *narrowSink {
	s := &narrowSink{room: make(chan struct{})}
	close(s.room)
	return s
}

// A GET that is under way when the broker brings a newer delta must not deliver its own after that.
func TestDeltaDuringAGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer, down := make(chan struct{}), wide()
		api := &scriptedAPI{answer: func(_ context.Context, n int) (string, error) {
			if n == 1 {
				return shadowDocument(4, `{}`), nil
			}
			<-answer
			return shadowDocument(5, `{"rpm":5}`), nil
		}}
		r := run(t, func(p *Ports) { p.API, p.Down = api, down })
		r.wantResync()
		time.Sleep(refetchMin + gateTime/2)
		r.cloud.feed <- arriving(mapping.ShadowDelta, "", string(delta(6, `{"rpm":6}`)))
		r.cloud.feed <- arriving(mapping.JobsNotify, "", `{"version":-1}`)
		synctest.Wait()
		if got := down.versions(); api.n.Load() != 2 || !slices.Equal(got, []int64{-1}) {
			t.Errorf("during GET %d programs saw %v, want the notification alone", api.n.Load(), got)
		}
		close(answer)
		synctest.Wait()
		if got := down.versions(); !slices.Equal(got, []int64{-1, 5, 6}) {
			t.Errorf("programs saw versions %v, want 5, 6", got)
		}
		r.end(t)
	})
}

// A delta that is on its way into a full sink is older than what a GET returns, and goes in first.
func TestGetBehindADeltaUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := &narrowSink{room: make(chan struct{})}
		api := &scriptedAPI{answer: func(_ context.Context, n int) (string, error) {
			if n == 1 {
				return shadowDocument(4, `{}`), nil
			}
			return shadowDocument(7, `{"rpm":7}`), nil
		}}
		r := run(t, func(p *Ports) { p.API, p.Down = api, down })
		r.cloud.feed <- arriving(mapping.ShadowDelta, "", string(delta(6, `{"rpm":6}`)))
		synctest.Wait()
		r.wantResync()
		time.Sleep(6 * time.Second)
		if api.n.Load() != 1 {
			t.Error("the GET did not wait for the delta under way")
		}
		close(down.room)
		synctest.Wait()
		if got := down.versions(); !slices.Equal(got, []int64{6, 7}) {
			t.Errorf("programs saw versions %v, want 6, 7", got)
		}
		r.end(t)
	})
}

// Nobody who waits for the gate, or sends through it, keeps a Thing from stopping.
func TestStopDuringAGet(t *testing.T) {
	for name, c := range map[string]struct {
		down  Sink
		hangs int // the GET that hangs
	}{
		"the GET hangs":    {wide(), 2},
		"the sink is full": {&narrowSink{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &scriptedAPI{answer: func(ctx context.Context, n int) (string, error) {
					if n == c.hangs {
						<-ctx.Done()
						return "", ctx.Err()
					}
					return shadowDocument(4, `{}`), nil
				}}
				r := run(t, func(p *Ports) { p.API, p.Down = api, c.down })
				if c.hangs == 0 {
					r.cloud.feed <- arriving(mapping.ShadowDelta, "", string(delta(6, `{"rpm":6}`)))
				}
				r.wantResync()
				time.Sleep(6 * time.Second)
				connection, cut := context.WithCancel(t.Context())
				ready := make(chan struct{})
				go func() { r.Ready(connection, true); close(ready) }()
				synctest.Wait()
				r.stop()
				synctest.Wait()
				cut()
				<-ready
				r.kill()
				if err := <-r.ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
