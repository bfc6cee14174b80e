package bridge

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// An API that hangs holds shadow messages back for a second at most, at each connection and at each GET after that;
// nor does it keep the question for pending jobs.
func TestSlowAPIHoldsNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := wide()
		api := &scriptedAPI{answer: func(ctx context.Context, _ int) (string, error) {
			if err := flow.Sleep(ctx, 10*time.Second); err != nil {
				return "", err
			}
			return "", errors.New("no answer within 10s")
		}}
		r := &running{}
		began := time.Now()
		ready := make(chan struct{})
		go func() { r = run(t, func(p *Ports) { p.API, p.Down = api, down }); close(ready) }()
		time.Sleep(time.Second)
		<-ready
		if waited := time.Since(began); waited < 10*time.Second {
			t.Errorf("the GET ended after %s", waited)
		}
		for version := 1; version <= 70; version++ {
			sent := len(down.versions())
			r.cloud.feed <- arriving(mapping.ShadowDelta, "", string(delta(version, `{"rpm":1}`)))
			time.Sleep(time.Second)
			synctest.Wait()
			if len(down.versions()) == sent {
				t.Fatalf("delta %d waits for more than a second", version)
			}
		}
		if s := r.Status.Status(); s.Shadow != ShadowStale || !strings.Contains(s.LastError, "no answer") {
			t.Errorf("%+v", s)
		}
		r.end(t)
	})
}

// What was delivered while a GET hung is not followed by an older delta of its answer; a newer one is.
func TestSlowAnswer(t *testing.T) {
	for _, c := range []struct {
		answer int
		want   []int64
	}{{4, []int64{6}}, {6, []int64{6}}, {9, []int64{6, 9}}} {
		synctest.Test(t, func(t *testing.T) {
			down := wide()
			api := &scriptedAPI{answer: func(ctx context.Context, n int) (string, error) {
				if n == 1 {
					return shadowDocument(3, `{}`), nil
				}
				return shadowDocument(c.answer, `{"rpm":7}`), flow.Sleep(ctx, 5*time.Second)
			}}
			r := run(t, func(p *Ports) { p.API, p.Down = api, down })
			r.wantResync()
			time.Sleep(refetchMin + 2*time.Second)
			r.cloud.feed <- arriving(mapping.ShadowDelta, "", string(delta(6, `{"rpm":6}`)))
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if got := down.versions(); !slices.Equal(got, c.want) {
				t.Errorf("an answer of version %d: programs saw %v, want %v", c.answer, got, c.want)
			}
			r.end(t)
		})
	}
}

// The first report of a new gateway waits for the document that it would erase the rest of, but not for ever.
func TestFirstReportWaitsForTheDocument(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(ctx context.Context, n int) (string, error)
		waits  time.Duration
		want   string
	}{
		"the document comes": {func(ctx context.Context, _ int) (string, error) {
			return `{"reported":{"rest":1},"desired":{},"delta":{},"version":3}`, flow.Sleep(ctx, 3*time.Second)
		}, 3 * time.Second, `{"rest":1,"a":1}`},
		"at the second try": {func(_ context.Context, n int) (string, error) {
			if n == 1 {
				return "", errors.New("no route to host")
			}
			return `{"reported":{"rest":1},"desired":{},"delta":{},"version":3}`, nil
		}, refetchMin, `{"rest":1,"a":1}`},
		"there is none":       {func(context.Context, int) (string, error) { return "", ErrNotFound }, 0, `{"a":1}`},
		"no document comes":   {func(context.Context, int) (string, error) { return `{"code":401}`, nil }, baseTime, `{"a":1}`},
		"it hangs for longer": {func(ctx context.Context, _ int) (string, error) { return "", flow.Sleep(ctx, time.Hour) }, baseTime, `{"a":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cloud, reports := &quietCloud{feed: make(feed, 16)}, make(feed, 1)
				thing := newThing(t, func(p *Ports) {
					p.Cloud, p.API = cloud, &scriptedAPI{answer: c.answer}
					p.Lanes = map[mapping.Kind]Source{mapping.Commands: make(feed), mapping.Jobs: make(feed), mapping.Shadow: reports, mapping.Events: make(feed)}
				})
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- thing.Run(ctx, ctx) }()
				reports <- arriving(mapping.ShadowReport, "", `{"state":{"reported":{"a":1}}}`)
				time.Sleep(time.Hour) // without a connection
				synctest.Wait()
				if n := len(cloud.messages()); n != 0 {
					t.Errorf("%d reports went before the first connection", n)
				}
				thing.Connected(ctx, func(s *Status) { s.Connected = true })
				ready := make(chan struct{})
				go func() { thing.Ready(ctx, true); close(ready) }()
				sent := func() string {
					synctest.Wait()
					for _, m := range cloud.messages() {
						if m.Address.Channel == mapping.ShadowReport {
							return reportedOf(m.Payload)
						}
					}
					return ""
				}
				if time.Sleep(c.waits - 1); c.waits > 0 && sent() != "" {
					t.Errorf("%s went too early", sent())
				}
				time.Sleep(2 * time.Nanosecond)
				if got := sent(); got != c.want {
					t.Errorf("published %q, want %s", got, c.want)
				}
				stop()
				<-ready
				<-ended
			})
		})
	}
}

// narrow is a bucket that takes no record of a command.
type narrow struct{ *memory }

func (narrow) Put(context.Context, string, []byte) error { return ErrTooLarge }

// A command that NATS can't carry is answered, once, and a record that is larger than the server takes is no reason to
// try for ever.
func TestCommandsTooLarge(t *testing.T) {
	request := `{"action":"purge","params":{"pad":"` + strings.Repeat("x", 2000) + `"}}`
	for name, limit := range map[string]func(*deciders){
		"before":            func(d *deciders) { d.station.Executions.MaxRecord = 2000 },
		"the down stream":   func(*deciders) {},
		"the server's word": func(d *deciders) { d.station.Executions.state = narrow{newMemory()} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDeciders(t)
				limit(d)
				down, in, dead := &sink{}, make(feed, 1), d.station.Graveyard.(*graveyard)
				if name == "the down stream" {
					down.err = Rejectf(CodeTooLarge, "the message has 9 bytes, NATS takes 8")
				}
				p := &Pump{Direction: mapping.Down, Source: in, Decider: d.down, Sink: down, Graveyard: dead, Observer: &fates{}, Log: quiet()}
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- p.Run(ctx, ctx) }()
				m, settled := arriving(mapping.CommandRequest, "e1", request), false
				m.Settle = func() { settled = true }
				in <- m
				synctest.Wait()
				if answers := d.station.Outbox.(*outbox).payloads(); len(answers) != 1 || !strings.Contains(answers[0], `"REJECTED"`) || !settled || len(dead.letters) != 1 {
					t.Errorf("answers %s, settled %v, %d dead letters", answers, settled, len(dead.letters))
				}
				stop()
				<-ended
			})
		})
	}
}

// The record of an execution has the request as it came, and that of an earlier version is read.
func TestExecutionRecords(t *testing.T) {
	for _, payload := range []string{`{"action":"a"}`, "{\n \"action\": \"<&>\u00fc\",\n\"n\":1e400}", ``, "\n\n"} {
		e := &Execution{ID: "e1", Action: "a", Payload: []byte(payload), Reply: "r"}
		record, err := e.print()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parseExecution(record); err != nil || string(got.Payload) != payload || got.ID != "e1" || got.Reply != "r" {
			t.Errorf("%q: %+v, %v", payload, got, err)
		}
	}
	old, err := parseExecution([]byte(`{"id":"e1","action":"purge","payload":"eyJhY3Rpb24iOiJwdXJnZSJ9","received":"2026-01-01T00:00:00Z","deadline":"2026-01-01T00:00:30Z","trace":{"Parent":"","State":""}}`))
	if err != nil || string(old.Payload) != `{"action":"purge"}` || old.Deadline.Second() != 30 {
		t.Errorf("%+v, %v", old, err)
	}
	for _, damaged := range []string{``, `{`, "{\n{}", `{"id":7}`} {
		if _, err := parseExecution([]byte(damaged)); err == nil {
			t.Errorf("%q is read", damaged)
		}
	}
}
