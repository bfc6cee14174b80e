package bridge

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// The clock of the cloud may be off by commands.clock_skew: a command that is late by less is run.
func TestClockSkewOnArrival(t *testing.T) {
	const ttl, ran = 30, "ran"
	for _, c := range []struct {
		skew, late time.Duration
		want       string
	}{
		{5 * time.Second, 4 * time.Second, ran},
		{5 * time.Second, 5 * time.Second, ran},
		{5 * time.Second, 6 * time.Second, "dead expired"},
		{0, 0, ran},
		{0, time.Second, "dead expired"},
	} {
		t.Run(fmt.Sprint(c.late, " late of ", c.skew), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDeciders(t)
				d.station.Policy.ClockSkew = c.skew
				m := arriving(mapping.CommandRequest, "e1", fmt.Sprintf(`{"action":"purge","timestamp":%d,"ttl":%d}`, time.Now().Add(-c.late).Unix()-ttl, ttl))
				decision, err := d.down.Decide(t.Context(), m)
				if got := fate(decision, err); got != c.want && (c.want != ran || got != string(m.Payload)) {
					t.Fatalf("%s, want %s", got, c.want)
				}
				if c.want != ran {
					return
				}
				decision.Finish(func() {})
				synctest.Wait()
				d.station.running.Wait()
				if c.skew > c.late { // else its time is over now
					d.station.expect(t, `{"status":"SUCCEEDED"}`)
				}
			})
		})
	}
}

// A handler has until the deadline and the skew.
func TestClockSkewWhileItRuns(t *testing.T) {
	for _, c := range []struct {
		skew, takes, want time.Duration // want: when the response is there, after the deadline
		response          string
	}{
		{5 * time.Second, 13 * time.Second, 3 * time.Second, `{"status":"SUCCEEDED"}`},
		{5 * time.Second, 20 * time.Second, 5 * time.Second, `{"status":"TIMED_OUT","result":{"error":"no answer by the deadline: a program subscribes to purge, and none replied; one that only watches counts, too"}}`},
		{0, 13 * time.Second, 0, `{"status":"TIMED_OUT","result":{"error":"no answer by the deadline: a program subscribes to purge, and none replied; one that only watches counts, too"}}`},
	} {
		t.Run(fmt.Sprint(c.takes, " with ", c.skew), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				policy := rejecting
				policy.ClockSkew = c.skew
				s := newStation(t, policy, func(ctx context.Context, _ Call) (Reply, error) { return Reply{}, flow.Sleep(ctx, c.takes) })
				e := s.start(t, "e1", 10*time.Second)
				s.running.Wait()
				s.expect(t, c.response)
				if after := time.Since(e.Deadline); after != c.want {
					t.Errorf("%s after the deadline, want %s", after, c.want)
				}
			})
		})
	}
}
