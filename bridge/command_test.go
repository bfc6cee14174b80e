package bridge

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// station is what commands need around them.
type station struct {
	*Commands
	outbox *outbox
	dead   *graveyard
	bucket *memory
}

func newStation(t *testing.T, policy CommandPolicy, h handler) *station {
	t.Helper()
	s := &station{outbox: &outbox{}, dead: &graveyard{}, bucket: newMemory()}
	x, _, err := LoadExecutions(t.Context(), pump07, s.bucket)
	if err != nil {
		t.Fatal(err)
	}
	s.Commands = &Commands{Thing: pump07, Policy: policy, Handlers: h, Outbox: s.outbox, Executions: x, Graveyard: s.dead,
		Catalog: catalog(t), Log: quiet(), slots: make(chan struct{}, commandSlots), quit: make(chan struct{})}
	return s
}

var rejecting = CommandPolicy{Reject: true, HandlerWait: 5 * time.Second, DefaultTTL: time.Minute, ClockSkew: 5 * time.Second}

// start begins an execution with this ttl and waits until its fate is known.
func (s *station) start(t *testing.T, id string, ttl time.Duration) *Execution {
	e := &Execution{ID: id, Action: "purge", Payload: []byte(`{"action":"purge"}`), Received: time.Now(), Deadline: time.Now().Add(ttl)}
	s.Executions.Begin(e)
	if err := s.Executions.Open(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	s.Start(t.Context(), e)
	return e
}

func (s *station) expect(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	got := s.outbox.payloads()
	if len(got) != len(want) {
		t.Fatalf("responses %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("response %s, want %s", got[i], want[i])
		}
	}
}

func TestHandlerReplies(t *testing.T) {
	for _, c := range []struct {
		name  string
		reply Reply
		want  string
		dead  int
	}{
		{"payload, byte for byte", Reply{Payload: []byte(`{"status": "SUCCEEDED", "result":{"n":12345678901234567890}}`)}, `{"status": "SUCCEEDED", "result":{"n":12345678901234567890}}`, 0},
		{"empty", Reply{}, `{"status":"SUCCEEDED"}`, 0},
		{"service error", Reply{ErrorCode: "17", Error: "pump locked"}, `{"status":"FAILED","result":{"error":"pump locked","code":17}}`, 0},
		{"service error with a word", Reply{ErrorCode: "LOCKED", Error: "x"}, `{"status":"FAILED","result":{"error":"x","code":"LOCKED"}}`, 0},
		{"breaks the schema", Reply{Payload: []byte(`{"status":"DONE"}`)}, "", 1},
		{"no JSON", Reply{Payload: []byte(`ok`)}, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStation(t, rejecting, func(context.Context, Call) (Reply, error) { return c.reply, nil })
				s.start(t, "e1", time.Minute)
				if c.want != "" {
					s.expect(t, c.want)
				}
				s.running.Wait()
				if c.dead > 0 {
					if got := gjson.Get(s.outbox.payloads()[0], "status").String(); got != "FAILED" {
						t.Errorf("status %q, want FAILED", got)
					}
				}
				if len(s.dead.letters) != c.dead {
					t.Errorf("%d dead letters, want %d", len(s.dead.letters), c.dead)
				}
			})
		})
	}
}

// Traps T8 and T32: nobody serves the command.
func TestT8NoHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, rejecting, func(context.Context, Call) (Reply, error) { return Reply{}, ErrNoHandler })
		s.start(t, "e1", time.Minute)
		time.Sleep(4900 * time.Millisecond)
		s.expect(t)
		time.Sleep(200 * time.Millisecond)
		s.expect(t, `{"status":"REJECTED","result":{"error":"no handler for purge"}}`)
		s.running.Wait()
	})
}

func TestHandlerThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := time.Now().Add(3 * time.Second)
		s := newStation(t, rejecting, func(context.Context, Call) (Reply, error) {
			if time.Now().Before(from) {
				return Reply{}, ErrNoHandler
			}
			return Reply{}, nil
		})
		s.start(t, "e1", time.Minute)
		s.running.Wait()
		s.expect(t, `{"status":"SUCCEEDED"}`)
	})
}

func TestNoHandlerWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := rejecting
		policy.Reject = false
		s := newStation(t, policy, func(context.Context, Call) (Reply, error) { return Reply{}, ErrNoHandler })
		s.start(t, "e1", time.Minute)
		time.Sleep(30 * time.Second)
		s.expect(t)
		s.running.Wait()
		s.expect(t, `{"status":"TIMED_OUT","result":{"error":"no answer by the deadline"}}`)
	})
}

func TestHandlerExceedsTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, rejecting, func(ctx context.Context, _ Call) (Reply, error) { <-ctx.Done(); return Reply{}, ctx.Err() })
		s.start(t, "e1", 10*time.Second)
		s.running.Wait()
		s.expect(t, `{"status":"TIMED_OUT","result":{"error":"no answer by the deadline: a program subscribes to purge, and none replied; one that only watches counts, too"}}`)
	})
}

// Whichever comes first is sent: a raw response ends the call.
func TestRawResponseComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, rejecting, func(ctx context.Context, _ Call) (Reply, error) { <-ctx.Done(); return Reply{}, ctx.Err() })
		s.start(t, "e1", time.Minute)
		synctest.Wait()
		if first, _, err := s.Executions.Claim(t.Context(), "e1", 7); !first || err != nil {
			t.Fatal(first, err)
		}
		s.running.Wait()
		s.expect(t)
	})
}

// At most one handler at a time for an execution, and one response, across restarts.
func TestT7OneResponseAcrossRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		calls := 0
		s := newStation(t, rejecting, func(ctx context.Context, _ Call) (Reply, error) {
			if calls++; calls == 1 {
				<-ctx.Done() // the bridge is stopped meanwhile
				return Reply{}, ctx.Err()
			}
			return Reply{}, nil
		})
		e := &Execution{ID: "e1", Action: "purge", Payload: []byte(`{ "action":"purge" }`), Deadline: time.Now().Add(time.Minute)}
		s.Executions.Begin(e)
		if err := s.Executions.Open(ctx, e); err != nil {
			t.Fatal(err)
		}
		s.Start(ctx, e)
		synctest.Wait()
		stop()
		s.running.Wait()
		s.expect(t)

		again, left, err := LoadExecutions(t.Context(), pump07, s.bucket)
		if err != nil || len(left) != 1 || string(left[0].Payload) != `{ "action":"purge" }` {
			t.Fatalf("left open: %v, %v", left, err)
		}
		s.Executions = again
		if seen, err := again.Seen(t.Context(), "e1"); !seen || err != nil {
			t.Error("a redelivery would run it again")
		}
		if err := s.Resume(t.Context(), left); err != nil {
			t.Fatal(err)
		}
		s.running.Wait()
		s.expect(t, `{"status":"SUCCEEDED"}`)
		if err := s.Resume(t.Context(), left); err != nil { // its answer waits in the outbox
			t.Fatal(err)
		}
		s.running.Wait()
		if calls != 2 {
			t.Errorf("%d calls, want 2", calls)
		}
		for seq, want := range map[uint64]bool{41: true} {
			if first, _, _ := again.Claim(t.Context(), "e1", seq); first != want {
				t.Error("claim", seq)
			}
		}
		if first, _, _ := again.Claim(t.Context(), "e1", 42); first {
			t.Error("a second response passed")
		}
		if first, _, _ := again.Claim(t.Context(), "e1", 41); !first {
			t.Error("the first response, handed out again, was dropped")
		}
		if seen, _ := again.Seen(t.Context(), "e1"); !seen {
			t.Error("a request that comes once more after the answer would run")
		}
		synctest.Wait()
		s.closed(t, "e1")
	})
}

// closed checks that the bucket says of an execution only that it was answered.
func (s *station) closed(t *testing.T, id string) {
	t.Helper()
	for state, want := range map[string]error{"open": ErrNotFound, "done": nil} {
		if _, err := s.bucket.Get(t.Context(), s.Executions.key(state, id)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", state, err, want)
		}
	}
}

// A bridge that is killed after it claimed a response, and before it closed the execution, does that when it
// starts, and does not run the command again.
func TestKilledAfterClaim(t *testing.T) {
	s := newStation(t, rejecting, nil)
	if first, _, err := s.Executions.Claim(t.Context(), "e1", 1); !first || err != nil {
		t.Fatal(first, err)
	}
	if err := s.Executions.Open(t.Context(), &Execution{ID: "e1", answered: make(chan struct{})}); err != nil {
		t.Fatal(err)
	}
	again, left, err := LoadExecutions(t.Context(), pump07, s.bucket)
	if err != nil || len(left) != 0 {
		t.Errorf("%d left, %v", len(left), err)
	}
	s.closed(t, "e1")
	if seen, err := again.Seen(t.Context(), "e1"); !seen || err != nil {
		t.Error("a request that comes once more would run", err)
	}
}

// A response that is claimed while the request is still being made durable closes it all the same.
func TestClaimBeforeOpen(t *testing.T) {
	s := newStation(t, rejecting, nil)
	e := &Execution{ID: "e1"}
	s.Executions.Begin(e)
	if first, _, err := s.Executions.Claim(t.Context(), "e1", 1); !first || err != nil {
		t.Fatal(first, err)
	}
	if err := s.Executions.Open(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	s.closed(t, "e1")
}

// Traps T24 and A10: what a deadline is made of.
func TestDeadlines(t *testing.T) {
	received := time.Unix(1780000000, 0)
	for payload, want := range map[string]time.Time{
		`{"timestamp":1780000000,"ttl":30}`:     received.Add(30 * time.Second),
		`{"timestamp":1780000000000,"ttl":30}`:  received.Add(30 * time.Second),
		`{"timestamp":"1780000000","ttl":30}`:   received.Add(30 * time.Second),
		`{"ttl":0.5}`:                           received.Add(500 * time.Millisecond),
		`{}`:                                    received.Add(time.Minute),
		`{"timestamp":1}`:                       received.Add(time.Minute),
		`{"timestamp":1780000000,"ttl":1e300}`:  received.Add(maxTTL),
		`{"timestamp":1780000000,"ttl":-5}`:     received,
		`{"timestamp":1,"ttl":5,"params":null}`: time.Unix(6, 0),
		`{"timestamp":"tomorrow","ttl":5}`:      received.Add(5 * time.Second),
	} {
		if got := rejecting.deadline([]byte(payload), received); !got.Equal(want) {
			t.Errorf("%s: %v, want %v", payload, got, want)
		}
	}
}

func TestFullDiskDelaysAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, rejecting, func(context.Context, Call) (Reply, error) { return Reply{}, nil })
		s.outbox.fail = errors.New("no space")
		s.start(t, "e1", time.Minute)
		time.Sleep(time.Second)
		s.outbox.mu.Lock()
		s.outbox.fail = nil
		s.outbox.mu.Unlock()
		s.running.Wait()
		s.expect(t, `{"status":"SUCCEEDED"}`)
		if got := s.outbox.sent[0].Address; got != at(mapping.CommandResponse, "e1") {
			t.Error(got)
		}
	})
}

// mute is an outbox that does not answer the first questions.
type mute struct {
	Outbox
	silent atomic.Int32
}

func (m *mute) Pending(ctx context.Context, a mapping.Address) (bool, error) {
	if m.silent.Add(-1) >= 0 {
		return false, errors.New("no leader")
	}
	return m.Outbox.Pending(ctx, a)
}

// TestResumeWithAMuteOutbox: a NATS cluster may have no leader for a while when a bridge takes a Thing over. The Thing
// starts, and its executions go on when the outbox answers.
func TestResumeWithAMuteOutbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, rejecting, func(context.Context, Call) (Reply, error) { return Reply{}, nil })
		e := &Execution{ID: "e1", Action: "purge", Payload: []byte(`{"action":"purge"}`), Received: time.Now(), Deadline: time.Now().Add(time.Minute)}
		s.Executions.Begin(e)
		m := &mute{Outbox: s.outbox}
		m.silent.Store(3)
		s.Outbox = m
		if err := s.Resume(t.Context(), []*Execution{e}); err != nil {
			t.Fatal(err)
		}
		s.running.Wait()
		s.expect(t, `{"status":"SUCCEEDED"}`)
	})
}

// TestResumeBehindABadAnswer: what waited in the outbox at the start was no response; the execution still gets one.
func TestResumeBehindABadAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, rejecting, func(context.Context, Call) (Reply, error) { return Reply{}, nil })
		e := &Execution{ID: "e1", Action: "purge", Payload: []byte(`{"action":"purge"}`), Received: time.Now(), Deadline: time.Now().Add(time.Minute)}
		s.Executions.Begin(e)
		if _, err := s.outbox.Enqueue(t.Context(), s.address("e1"), []byte(`{"status":"DONE"}`), Trace{}); err != nil { // a program's, on the raw subject
			t.Fatal(err)
		}
		if err := s.Resume(t.Context(), []*Execution{e}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		s.expect(t, `{"status":"DONE"}`)
		s.outbox.mu.Lock()
		s.outbox.sent = nil // the pump has found it bad: see Upward.Decide
		s.outbox.mu.Unlock()
		time.Sleep(2 * time.Minute)
		s.expect(t, `{"status":"SUCCEEDED"}`)
	})
}
