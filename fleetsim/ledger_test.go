package fleetsim_test

import (
	"context"
	"runtime"
	"strings"
	"testing"

	"fleetbridge/fleetsim"
)

const lane = "up/pump-07/telemetry"

// ledgerOf hands n messages in, all accepted.
func ledgerOf(n int) *fleetsim.Ledger {
	l := fleetsim.NewLedger()
	for range n {
		l.Accepted(lane, l.Next(lane))
	}
	return l
}

func TestLedgerReconciles(t *testing.T) {
	arrive := func(numbers ...uint64) func(*fleetsim.Ledger) {
		return func(l *fleetsim.Ledger) {
			for _, n := range numbers {
				l.Arrived(lane, n)
			}
		}
	}
	for _, c := range []struct {
		name string
		do   func(*fleetsim.Ledger)
		want fleetsim.Tally
	}{
		{"all", arrive(1, 2, 3, 4), fleetsim.Tally{In: 4, Delivered: 4}},
		{"a loss", arrive(1, 2, 4), fleetsim.Tally{In: 4, Delivered: 3, Lost: 1}},
		{"a duplicate", arrive(1, 2, 2, 3, 4, 1), fleetsim.Tally{In: 4, Delivered: 4, Duplicated: 2}},
		{"a swap", arrive(1, 3, 2, 4), fleetsim.Tally{In: 4, Delivered: 4, OutOfOrder: 1}},
		{"a late one", arrive(2, 3, 4, 1), fleetsim.Tally{In: 4, Delivered: 4, OutOfOrder: 1}},
		{"resent from the head", arrive(1, 2, 3, 1, 2, 3, 4), fleetsim.Tally{In: 4, Delivered: 4, Duplicated: 3}},
		{"one that nobody sent", arrive(1, 2, 3, 4, 5, 0), fleetsim.Tally{In: 4, Delivered: 4, Strange: 2}},
		{"dead", func(l *fleetsim.Ledger) { arrive(1, 3, 4)(l); l.Died(lane, 2) }, fleetsim.Tally{In: 4, Delivered: 3, Dead: 1}},
		{"arrived and dead", func(l *fleetsim.Ledger) { arrive(1, 2, 3, 4)(l); l.Died(lane, 2) }, fleetsim.Tally{In: 4, Delivered: 4}},
		{"still queued", func(l *fleetsim.Ledger) { arrive(1, 2)(l); l.Queued(lane, 3); l.Queued(lane, 4) }, fleetsim.Tally{In: 4, Delivered: 2, Queued: 2}},
		{"never accepted", func(l *fleetsim.Ledger) { arrive(1, 2, 3, 4)(l); l.Next(lane); l.Arrived(lane, l.Next(lane)) }, fleetsim.Tally{In: 4, Delivered: 4, Unknown: 2}},
		{"accepted late", func(l *fleetsim.Ledger) {
			n := l.Next(lane)
			arrive(1, 2, 3, 4, n)(l)
			l.Accepted(lane, n)
			l.Accepted(lane, n)
		}, fleetsim.Tally{In: 5, Delivered: 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := ledgerOf(4)
			c.do(l)
			r := l.Report()
			c.want.Lane = "total"
			if r.Total != c.want {
				t.Errorf("%+v, want %+v", r.Total, c.want)
			}
			bad := c.want.Lost+c.want.OutOfOrder+c.want.Strange > 0
			if err := r.Err(); (err != nil) != bad || err != nil && !strings.Contains(err.Error(), lane) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestLedgerKeepsLanesApart(t *testing.T) {
	l := fleetsim.NewLedger()
	for _, name := range []string{"up/b/control", "down/a"} {
		n := l.Next(name)
		if n != 1 {
			t.Errorf("%s begins at %d", name, n)
		}
		l.Accepted(name, n)
	}
	l.Arrived("down/a", 1)
	r := l.Report()
	if len(r.Lanes) != 2 || r.Lanes[0].Lane != "down/a" || r.Lanes[0].Lost != 0 || r.Lanes[1].Lost != 1 || r.Total.In != 2 {
		t.Errorf("%+v", r)
	}
}

func TestLedgerSettles(t *testing.T) {
	l := ledgerOf(300)
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Settled(short); err == nil || !strings.Contains(err.Error(), lane+": 300 of 300 (1 2 3 4 5 …)") {
		t.Errorf("error %v", err)
	}
	settled := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { settled <- l.Settled(ctx) }()
	for n := range uint64(299) {
		l.Arrived(lane, n+1)
		l.Arrived(lane, n+1)
	}
	select {
	case err := <-settled:
		t.Fatalf("settled with one message open: %v", err)
	default:
	}
	l.Died(lane, 300)
	l.Arrived(lane, 300)
	if err := <-settled; err != nil {
		t.Error(err)
	}
}

// A message is a few bits.
func TestLedgerIsSmall(t *testing.T) {
	const messages = 100_000
	l := fleetsim.NewLedger()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range messages {
		n := l.Next(lane)
		l.Accepted(lane, n)
		l.Arrived(lane, n)
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / messages; per > 4 {
		t.Errorf("%d bytes a message", per)
	}
}
