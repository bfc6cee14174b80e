package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidwall/sjson"

	"fleetbridge/mapping"
)

// switchboard is handlers that outlive the bridge: whoever listens for a token when a handler replies hears it.
type switchboard struct {
	takes time.Duration // what a handler needs

	mu    sync.Mutex
	ears  map[string]chan Reply
	calls []time.Duration // since began
	began time.Time
}

func newSwitchboard(takes time.Duration) *switchboard {
	return &switchboard{takes: takes, ears: map[string]chan Reply{}, began: time.Now()}
}

type connection struct {
	*switchboard
	token string
	ear   chan Reply
}

func (s *switchboard) Listen(_ mapping.Thing, token string) (Line, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ear := make(chan Reply, 1)
	s.ears[token] = ear
	return &connection{s, token, ear}, nil
}

func (c *connection) Call(ctx context.Context, _ Call) (Reply, error) {
	c.mu.Lock()
	c.calls = append(c.calls, time.Since(c.began))
	n := len(c.calls)
	c.mu.Unlock()
	go func() {
		time.Sleep(c.takes)
		c.mu.Lock()
		defer c.mu.Unlock()
		select {
		case c.ears[c.token] <- Reply{Payload: []byte(`{"status":"SUCCEEDED","result":{"call":` + string(rune('0'+n)) + `}}`)}:
		default:
		}
	}()
	return c.Wait(ctx)
}

func (c *connection) Wait(ctx context.Context) (Reply, error) {
	select {
	case r := <-c.ear:
		return r, nil
	case <-ctx.Done():
		return Reply{}, ctx.Err()
	}
}

func (c *connection) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ears, c.token)
}

// restart runs one execution on the switchboard and takes it up in a second bridge after a second. edit
// changes the record between the two.
func restart(t *testing.T, b *switchboard, edit func(string) string) *station {
	t.Helper()
	s := newStation(t, rejecting, nil)
	s.Handlers = b
	ctx, stop := context.WithCancel(t.Context())
	e := &Execution{ID: "e1", Action: "purge", Payload: []byte(`{"action":"purge"}`), Deadline: time.Now().Add(time.Minute)}
	s.Executions.Begin(e)
	if err := s.Executions.Open(ctx, e); err != nil {
		t.Fatal(err)
	}
	s.Start(ctx, e)
	time.Sleep(time.Second)
	stop()
	s.running.Wait()
	s.expect(t)
	key := s.Executions.key("open", "e1")
	s.bucket.values[key] = []byte(edit(string(s.bucket.values[key])))
	again, left, err := LoadExecutions(t.Context(), pump07, s.bucket)
	if err != nil || len(left) != 1 {
		t.Fatalf("left open: %v, %v", left, err)
	}
	s.Executions = again
	if err := s.Resume(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	s.running.Wait()
	time.Sleep(time.Minute)
	if len(b.ears) > 0 {
		t.Error("the bridge still listens")
	}
	return s
}

// A handler that is at it while the bridge is started again is waited for, and its reply is the response.
func TestHandlerOutlivesTheBridge(t *testing.T) {
	same := func(s string) string { return s }
	for _, c := range []struct {
		name  string
		takes time.Duration
		edit  func(string) string
		calls string // seconds
		by    string
	}{
		{"replies in time", 4 * time.Second, same, "0s", "1"},
		{"replies while the second runs", 8 * time.Second, same, "0s 6s", "1"},
		{"record of a version without lines", 4 * time.Second, func(s string) string { s, _ = sjson.Delete(s, "reply"); return s }, "0s 1s", "2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newSwitchboard(c.takes)
				s := restart(t, b, c.edit)
				s.expect(t, `{"status":"SUCCEEDED","result":{"call":`+c.by+`}}`)
				var calls []string
				for _, d := range b.calls {
					calls = append(calls, d.String())
				}
				if got := strings.Join(calls, " "); got != c.calls {
					t.Errorf("called at %s, want %s", got, c.calls)
				}
			})
		})
	}
}

// The place where a handler replies can't be guessed, and is stored with the request.
func TestLinesAreSecret(t *testing.T) {
	s := newStation(t, rejecting, nil)
	tokens := map[string]bool{}
	for _, id := range []string{"e1", "e2"} {
		e := &Execution{ID: id}
		s.Executions.Begin(e)
		if err := s.Executions.Open(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		var stored Execution
		if err := json.Unmarshal(s.bucket.values[s.Executions.key("open", id)], &stored); err != nil || len(stored.Reply) < 26 || tokens[stored.Reply] {
			t.Errorf("%+v, %v", stored, err)
		}
		tokens[stored.Reply] = true
	}
}

// TestLeftWithLittleTime: what was perhaps never called is called before its time is over.
func TestLeftWithLittleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSwitchboard(time.Second)
		s := newStation(t, rejecting, nil)
		s.Handlers = b
		s.Policy.HandlerWait = time.Minute
		e := &Execution{ID: "e1", Action: "purge", Payload: []byte(`{"action":"purge"}`), Deadline: time.Now().Add(30 * time.Second)}
		s.Executions.Begin(e)
		if err := s.Executions.Open(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		again, left, err := LoadExecutions(t.Context(), pump07, s.bucket)
		if err != nil {
			t.Fatal(err)
		}
		s.Executions = again
		if err := s.Resume(t.Context(), left); err != nil {
			t.Fatal(err)
		}
		s.running.Wait()
		s.expect(t, `{"status":"SUCCEEDED","result":{"call":1}}`)
	})
}

// left is a station that takes up so many executions of an earlier run.
func left(t *testing.T, b *switchboard, n int) *station {
	t.Helper()
	s := newStation(t, rejecting, nil)
	s.Handlers = b
	for i := range n {
		e := &Execution{ID: fmt.Sprint(i), Action: "purge", Payload: []byte(`{"action":"purge"}`), Deadline: time.Now().Add(time.Minute)}
		s.Executions.Begin(e)
		if err := s.Executions.Open(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	again, left, err := LoadExecutions(t.Context(), pump07, s.bucket)
	if err != nil || len(left) != n {
		t.Fatalf("left open: %d, %v", len(left), err)
	}
	s.Executions = again
	if err := s.Resume(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	return s
}

// Many commands that were left wait for their handlers side by side.
func TestManyLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSwitchboard(time.Second)
		s := left(t, b, 3*commandSlots)
		time.Sleep(leftWait + 4*time.Second)
		b.mu.Lock()
		n := len(b.calls)
		b.mu.Unlock()
		if n != 3*commandSlots {
			t.Errorf("%d were called", n)
		}
		s.running.Wait()
	})
}

// A stop does not wait for the handlers of an earlier run, and calls nobody.
func TestStopWhileOthersAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSwitchboard(time.Second)
		s := left(t, b, 3)
		time.Sleep(time.Second)
		began := time.Now()
		s.Finish()
		if d := time.Since(began); d > 0 {
			t.Errorf("stopped after %v", d)
		}
		s.expect(t)
		if len(b.calls) > 0 || len(b.ears) > 0 {
			t.Errorf("called %d times, %d lines are open", len(b.calls), len(b.ears))
		}
	})
}
