package bridge

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fleetbridge/mapping"
)

func logged(t *testing.T) (*slog.Logger, func() string) {
	var log strings.Builder
	return slog.New(slog.NewTextHandler(&log, nil)), func() string {
		out := log.String()
		log.Reset()
		return out
	}
}

// It speaks once per change, whoever found out.
func TestClockWatch(t *testing.T) {
	log, said := logged(t)
	w := &ClockWatch{Log: log, Allowed: 5 * time.Second}
	for _, c := range []struct {
		ahead time.Duration
		want  string // in the log; empty: nothing
	}{
		{0, ""}, {4 * time.Second, ""}, {-5 * time.Second, ""},
		{time.Hour, "ahead=1h0m0s"}, {time.Hour + 10*time.Second, ""}, {2 * time.Hour, "ahead=2h0m0s"},
		{-time.Minute, "commands run after their time"}, {time.Second, "agree again"}, {0, ""},
	} {
		w.Compare(c.ahead, "a test")
		if got := said(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s ahead: %q, want %q", c.ahead, got, c.want)
		}
	}
	w.Compare(time.Hour, "a test")
	if got := w.Trouble(); got != "the gateway's clock is 1h0m0s ahead of the cloud's" {
		t.Error(got)
	}
}

// Commands show a difference only when several in a row are off by the same, and did not wait together.
func TestClocksByCommands(t *testing.T) {
	began := time.Date(2026, 5, 27, 10, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		at, late []time.Duration
		differs  bool
	}{
		"an hour ahead":          {[]time.Duration{0, time.Second, 2 * time.Second}, []time.Duration{time.Hour, time.Hour + time.Second, time.Hour}, true},
		"a minute behind":        {[]time.Duration{0, time.Second, 2 * time.Second}, []time.Duration{-time.Minute, -time.Minute, -time.Minute}, true},
		"two only":               {[]time.Duration{0, time.Second}, []time.Duration{time.Hour, time.Hour}, false},
		"waited together":        {[]time.Duration{0, 1, 2, 3}, []time.Duration{time.Hour, time.Hour, time.Hour, time.Hour}, false},
		"a backlog, of any time": {[]time.Duration{0, 1, 2, time.Second}, []time.Duration{time.Hour, 50 * time.Minute, 40 * time.Minute, 30 * time.Minute}, false},
		"within the skew":        {[]time.Duration{0, time.Second, 2 * time.Second}, []time.Duration{4 * time.Second, 4 * time.Second, 4 * time.Second}, false},
		"one on time in between": {[]time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second}, []time.Duration{time.Hour, time.Hour, 0, time.Hour}, false},
	} {
		w := &ClockWatch{Log: quiet(), Allowed: 5 * time.Second}
		a := arrivals{watch: w}
		for i, at := range c.at {
			received := began.Add(at)
			a.note(received, received.Add(-c.late[i]))
		}
		if got := w.Trouble() != ""; got != c.differs {
			t.Errorf("%s: %q", name, w.Trouble())
		}
		if a.note(began.Add(time.Minute), began.Add(time.Minute)); w.Trouble() != "" {
			t.Errorf("%s: a command on time does not end it", name)
		}
	}
}

// A command that is too late by the clocks is answered with that.
func TestTimedOutByTheClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeciders(t)
		d.down.arrivals.watch = &ClockWatch{Log: quiet(), Allowed: 5 * time.Second}
		var err error
		for i := range 4 {
			time.Sleep(time.Second)
			m := arriving(mapping.CommandRequest, fmt.Sprint(i), fmt.Sprintf(`{"action":"purge","timestamp":%d,"ttl":30}`, time.Now().Add(-time.Hour).Unix()))
			_, err = d.down.Decide(t.Context(), m)
		}
		if err == nil || !strings.Contains(err.Error(), "the gateway's clock is 1h0m0s ahead of the cloud's") {
			t.Error(err)
		}
	})
}

// Marks that only grow do not follow a clock that was far ahead, and bursts are no such clock.
func TestMarksAheadOfTheClock(t *testing.T) {
	now := time.Date(2026, 5, 27, 10, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		looks []time.Time // what the clock shows, one after the other
		last  int64       // of an earlier run
		want  time.Time   // of the stamp at the last look, to the second
	}{
		"of an earlier run, a year ahead":          {[]time.Time{now}, now.AddDate(1, 0, 0).UnixMilli(), now},
		"of an earlier run, 30 s ahead":            {[]time.Time{now}, now.Add(30 * time.Second).UnixMilli(), now.Add(30 * time.Second)},
		"the clock is a year ahead for a moment":   {[]time.Time{now, now.AddDate(1, 0, 0), now.Add(time.Second)}, 0, now.Add(time.Second)},
		"the clock steps back by a second":         {[]time.Time{now, now.Add(-time.Second)}, 0, now},
		"the clock was not set yet, the mark was":  {[]time.Time{time.Unix(100, 0)}, now.UnixMilli(), now},
		"and is set then":                          {[]time.Time{time.Unix(100, 0), now}, now.Add(-time.Hour).UnixMilli(), now},
		"and is set then, the mark was far ahead":  {[]time.Time{time.Unix(100, 0), now}, now.AddDate(1, 0, 0).UnixMilli(), now},
		"the clock was a century ahead, and again": {[]time.Time{now.AddDate(100, 0, 0), now, now.AddDate(100, 0, 0), now}, 0, now},
	} {
		clock := StampClock{Last: c.last}
		var got int64
		for _, at := range c.looks {
			clock.SetBack(at)
			got = clock.Next(at.UnixMilli())
		}
		if d := time.UnixMilli(got).Sub(c.want); d.Abs() > time.Second {
			t.Errorf("%s: %s, want %s", name, time.UnixMilli(got).UTC(), c.want)
		}
	}
	clock, last := StampClock{}, int64(0)
	for range 200_000 { // more than three minutes' worth of milliseconds
		clock.SetBack(now)
		ms := clock.Next(now.UnixMilli())
		if ms <= last {
			t.Fatalf("%d after %d in a burst", ms, last)
		}
		last = ms
	}
}

// What was stored with a wrong clock gets the time of now, too; and the mark that such a clock left is said once.
func TestEventsOfAClockAhead(t *testing.T) {
	b := newMemory()
	now := time.Date(2026, 5, 27, 10, 0, 0, 0, time.UTC)
	ahead := now.AddDate(1, 0, 0)
	b.values["pump-07"] = fmt.Append(nil, ahead.UnixMilli())
	c, err := LoadEventClock(t.Context(), pump07, b)
	if err != nil {
		t.Fatal(err)
	}
	var said func() string
	c.Log, said = logged(t)
	for i, m := range []Message{{Received: now}, {Received: ahead, Stamp: ahead.UnixMilli()}, {Received: ahead}, {Received: now, Stamp: now.UnixMilli()}} {
		if ms, keep := c.Stamp(m, now); ms != now.UnixMilli()+int64(i) || !keep {
			t.Errorf("event %d: %s, %v", i, time.UnixMilli(ms).UTC(), keep)
		}
	}
	if got := said(); strings.Count(got, "level=WARN") != 1 {
		t.Error(got)
	}
	done := make(chan struct{})
	c.Save(deadline(t), now.UnixMilli(), func() { close(done) })
	<-done
	if got := string(b.values["pump-07"]); got != fmt.Sprint(now.UnixMilli()) {
		t.Errorf("the mark is %s", got)
	}
}

// A kind of work that fails is said once, however many are at it, and seen until it works.
func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, said := logged(t)
		r := &Retries{Log: log}
		noSpace := errors.New("no space")
		var works atomic.Bool
		write := func() error {
			if works.Load() {
				return nil
			}
			return noSpace
		}
		for range 50 {
			go func() { _ = r.Until(t.Context(), pump07, "to write", write) }()
		}
		synctest.Wait()
		if got := said(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "no space") || !strings.Contains(got, "to write") {
			t.Error(got)
		}
		if w := r.Waiting(); len(w) != 1 || w[0].Tries != 50 || w[0].Err != noSpace || w[0].Thing != pump07 {
			t.Errorf("%+v", w)
		}
		time.Sleep(time.Minute)
		works.Store(true)
		time.Sleep(pauseMax)
		synctest.Wait()
		if got := said(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "works again") || len(r.Waiting()) != 0 {
			t.Errorf("%q, %+v", got, r.Waiting())
		}
		var none *Retries
		if err := none.Until(t.Context(), pump07, "", func() error { return nil }); err != nil || none.Waiting() != nil {
			t.Error(err)
		}
	})
}
