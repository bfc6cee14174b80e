package bridge

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

type feed chan Delivery

func (f feed) Take(ctx context.Context) []Delivery {
	select {
	case d := <-f:
		return []Delivery{d}
	case <-ctx.Done():
		return nil
	}
}

// deciderFunc is a Decider made of a function.
type deciderFunc func(context.Context, Delivery) (Decision, error)

func (f deciderFunc) Decide(ctx context.Context, d Delivery) (Decision, error) { return f(ctx, d) }

// line feeds numbered messages through a pump and notes the order of their settlement.
type line struct {
	pump    *Pump
	feed    feed
	sink    *sink
	dead    *graveyard
	fates   *fates
	mu      sync.Mutex
	settled []string
}

func newLine(decide deciderFunc) *line {
	l := &line{feed: make(feed, 100), sink: &sink{}, dead: &graveyard{}, fates: &fates{}}
	l.pump = &Pump{Direction: mapping.Up, Source: l.feed, Decider: decide, Sink: l.sink, Graveyard: l.dead, Observer: l.fates, Retries: nil, Log: quiet()}
	return l
}

func (l *line) put(payload string) {
	l.feed <- Delivery{Message: Message{Address: at(mapping.Event, "x"), Payload: []byte(payload)}, Settle: func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.settled = append(l.settled, payload)
	}}
}

func (l *line) expect(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.settled, want) {
		t.Fatalf("settled %q, want %q", l.settled, want)
	}
}

// run starts the pump and returns what stops it: take, then work.
func (l *line) run(t *testing.T) (stopTaking, stopWork func()) {
	take, stopTaking := context.WithCancel(context.Background())
	work, stopWork := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = l.pump.Run(take, work) }()
	t.Cleanup(func() { stopTaking(); stopWork(); <-ended })
	return stopTaking, stopWork
}

func passAll(_ context.Context, d Delivery) (Decision, error) { return forward(d.Message), nil }

// The pump's one promise.
func TestSettledOnlyAfterDurableCharge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(passAll)
		l.sink.hold = true
		l.run(t)
		l.put("1")
		l.put("2")
		l.put("3")
		l.expect(t)
		l.sink.answer(1, nil)
		l.expect(t) // 1 is still on its way
		l.sink.answer(0, nil)
		l.expect(t, "1", "2")
		l.sink.answer(2, nil)
		l.expect(t, "1", "2", "3")
	})
}

// A redelivery that comes while the first copy is on its way to the disk must not be acknowledged
// before that copy is.
func TestDuplicateSettlesAfterItsOriginal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(func(_ context.Context, d Delivery) (Decision, error) {
			if string(d.Payload) == "again" {
				return drop(Duplicate), nil
			}
			return forward(d.Message), nil
		})
		l.sink.hold = true
		l.run(t)
		l.put("first")
		l.put("again")
		l.expect(t)
		l.sink.answer(0, nil)
		l.expect(t, "first", "again")
		if l.fates.count(Duplicate) != 1 || l.fates.count(Delivered) != 1 {
			t.Error(l.fates.all)
		}
	})
}

func TestRejectionGoesToTheGraveyardAndBlocksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(func(_ context.Context, d Delivery) (Decision, error) {
			if string(d.Payload) == "poison" {
				return Decision{}, Rejectf(CodeSchema, "bad")
			}
			return forward(d.Message), nil
		})
		l.run(t)
		for _, p := range []string{"1", "poison", "2"} {
			l.put(p)
		}
		l.expect(t, "1", "poison", "2")
		if len(l.dead.letters) != 1 || string(l.dead.letters[0].Payload) != "poison" || l.dead.letters[0].Rejection.Code != CodeSchema {
			t.Error(l.dead.letters)
		}
		if l.fates.count(Dead) != 1 || l.fates.count(Delivered) != 2 {
			t.Error(l.fates.all)
		}
	})
}

func TestSinkRejectionIsBuried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(passAll)
		l.sink.err = Rejectf(CodeRefused, "0x87")
		l.run(t)
		l.put("1")
		l.expect(t, "1")
		if len(l.dead.letters) != 1 || l.dead.letters[0].Rejection.Code != CodeRefused {
			t.Error(l.dead.letters)
		}
	})
}

// An error that is no rejection means retry, and nothing overtakes.
func TestPassingErrorRetriesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		l := newLine(func(_ context.Context, d Delivery) (Decision, error) {
			if tries++; tries < 4 {
				return Decision{}, errors.New("no space")
			}
			return forward(d.Message), nil
		})
		l.run(t)
		l.put("1")
		l.put("2")
		synctest.Wait()
		l.expect(t)
		<-l.pumpIdle()
		l.expect(t, "1", "2")
		if tries != 5 {
			t.Errorf("%d tries, want 5", tries)
		}
	})
}

// pumpIdle is closed, in the bubble's time, after the longest pause.
func (l *line) pumpIdle() <-chan struct{} {
	c := make(chan struct{})
	go func() { _ = flow.Sleep(context.Background(), pauseMax); close(c) }()
	return c
}

func TestFinishRunsBetweenChargeAndSettlement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var settle func()
		l := newLine(func(_ context.Context, d Delivery) (Decision, error) {
			x := forward(d.Message)
			x.Finish = func(s func()) { settle = s }
			return x, nil
		})
		l.run(t)
		l.put("1")
		l.expect(t)
		settle()
		l.expect(t, "1")
	})
}

func TestStopFinishesWhatWasTakenAndTakesNothingNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(passAll)
		l.sink.hold = true
		stopTaking, _ := l.run(t)
		l.put("1")
		synctest.Wait()
		stopTaking()
		synctest.Wait()
		l.put("2")
		l.sink.answer(0, nil)
		l.expect(t, "1")
		if got := len(l.sink.messages()); got != 1 {
			t.Errorf("%d messages were sent, want 1", got)
		}
	})
}
