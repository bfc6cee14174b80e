package bridge

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fleetbridge/mapping"
)

// TestCloudThatDoesNotAnswer is said once, and so is its return.
func TestCloudThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []bool
		x := newThing(t, func(p *Ports) {
			p.API = nil
			p.Cloud = &quietCloud{feed: make(feed)}
			p.Silent = func(_ mapping.Thing, yes bool) { said = append(said, yes) }
		})
		x.answers = 10 * time.Second
		for range 3 {
			x.Ready(t.Context(), true)
			if got := x.Status.Status().LastError; !strings.HasPrefix(got, "jobs/get: no answer within 10s") {
				t.Error(got)
			}
		}
		x.exchange.Answer(Message{Address: at(mapping.JobsGetAccepted, ""), Payload: []byte(`{}`)})
		synctest.Wait()
		if got := x.Status.Status().LastError; got != "" {
			t.Error(got)
		}
		if len(said) != 4 || !said[0] || said[3] {
			t.Error(said)
		}
	})
}

// TestLettersAreLogged once a minute for each code, with their number.
func TestLettersAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, lines := countingLog()
		l := letterLog{log: log, direction: mapping.Up}
		for range 90 {
			l.dead(mapping.Event, Rejectf(CodeRefused, "no"))
			l.dead(mapping.ShadowReport, Rejectf(CodeSchema, "no"))
			l.taken(mapping.JobsGet)
			time.Sleep(time.Second)
		}
		if got := lines("WARN"); got != 4 {
			t.Errorf("%d warnings", got)
		}
		for range 5 {
			l.taken(mapping.Event)
		}
		if got := lines("INFO"); got != 1 {
			t.Errorf("%d lines", got)
		}
	})
}

// countingLog returns a log, and what counts its records of a level.
func countingLog() (*slog.Logger, func(level string) int) {
	var b bytes.Buffer
	return slog.New(slog.NewTextHandler(&b, nil)), func(level string) int { return strings.Count(b.String(), "level="+level) }
}
