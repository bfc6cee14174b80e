package bridge

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"fleetbridge/mapping"
)

// prompt is a State whose CreateSoon is durable when a test says so.
type prompt struct {
	*memory
	durable func(error)
	gone    string
}

func (p *prompt) CreateSoon(ctx context.Context, r Record, gone string, durable func(error)) error {
	if err := p.Create(ctx, r.Key, r.Value); err != nil {
		return err
	}
	p.durable, p.gone = durable, gone
	return nil
}

// TestResponseIsSettledAfterItsClaim: it is sent at once, but settled only when it is durable that it is the one; when that
// fails, it is tried again.
func TestResponseIsSettledAfterItsClaim(t *testing.T) {
	for name, failure := range map[string]error{"durable": nil, "the disk fails": errors.New("input/output error")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDeciders(t)
				state := &prompt{memory: d.station.bucket}
				x := d.station.Executions
				x.state, x.Retries = state, &Retries{Log: quiet()}
				if err := x.Begin(&Execution{ID: "e1"}); err != nil {
					t.Fatal(err)
				}
				m := arriving(mapping.CommandResponse, "e1", `{"status":"SUCCEEDED"}`)
				m.Sequence = 7
				decision, err := d.up.Decide(t.Context(), m)
				if err != nil || !decision.Forward || decision.Finish == nil {
					t.Fatalf("%+v, %v", decision, err)
				}
				settled := false
				decision.Finish(func() { settled = true })
				if synctest.Wait(); settled {
					t.Fatal("settled before its claim is durable")
				}
				if seen, err := x.Seen(t.Context(), "e1"); !seen || err != nil {
					t.Errorf("a redelivery would run it again: %v", err)
				}
				other := m
				other.Sequence = 8
				if second, err := d.up.Decide(t.Context(), other); fate(second, err) != "duplicate" {
					t.Errorf("another response is %s", fate(second, err))
				}
				if failure != nil {
					delete(state.values, "done.pump-07.e1")
				}
				state.durable(failure)
				time.Sleep(time.Minute)
				if synctest.Wait(); !settled || state.gone != "open.pump-07.e1" {
					t.Errorf("settled %v, with %q", settled, state.gone)
				}
				if one, err := x.Claimed(t.Context(), "e1", 7); !one || err != nil {
					t.Errorf("%v, %v", one, err)
				}
			})
		})
	}
}

// keeper is a Sink that is a Keeper.
type keeper struct {
	sink
	records []Record
}

func (k *keeper) SendKept(_ context.Context, _ Message, r Record, done func(error)) error {
	k.records = append(k.records, r)
	done(nil)
	return nil
}

// TestCommandGoesWithItsExecution: a sink that can keep both at once is given both, and the command runs when they are kept.
func TestCommandGoesWithItsExecution(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeciders(t)
		d.down.Keeps = true
		to := &keeper{}
		source := make(feed, 1)
		take, stop := context.WithCancel(t.Context())
		pump := &Pump{Thing: pump07, Direction: mapping.Down, Source: source, Decider: d.down, Sink: to, Graveyard: d.station.dead, Observer: &fates{}, Retries: &Retries{Log: quiet()}, Log: quiet()}
		settled := false
		m := arriving(mapping.CommandRequest, "e1", `{"action":"purge"}`)
		m.Settle = func() { settled = true }
		source <- m
		go func() { _ = pump.Run(take, t.Context()) }()
		d.station.expect(t, `{"status":"SUCCEEDED"}`)
		if !settled || len(to.records) != 1 || to.records[0].Key != "open.pump-07.e1" {
			t.Fatalf("settled %v, kept %+v", settled, to.records)
		}
		if e, err := parseExecution(to.records[0].Value); err != nil || e.ID != "e1" || string(e.Payload) != `{"action":"purge"}` || e.Reply == "" {
			t.Errorf("%+v, %v", e, err)
		}
		if d.station.bucket.writes != 0 {
			t.Error("the execution was written once more")
		}
		stop()
	})
}
