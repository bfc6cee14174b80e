package bench

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fleetbridge/mapping"
)

// script is a path whose other end gets what a test says.
type script struct {
	got  func([]byte)
	fail func()
	send func(s *script, n int64, payload []byte)
}

func (s *script) Open(_ context.Context, _ Load, got func([]byte), fail func()) (Ends, error) {
	s.got, s.fail = got, fail
	return s, nil
}

func (s *script) Send(_ int, n int64, payload []byte) error {
	s.send(s, n, append([]byte(nil), payload...))
	return nil
}

func (s *script) Close() {}

func measure(t *testing.T, l Load, send func(s *script, n int64, payload []byte)) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l.Kind, l.Size, l.Things = Down, 300, []mapping.Thing{"a"}
	r, err := Measure(ctx, l, &script{send: send}, Gauges{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What comes twice, late or not at all is told apart.
func TestWhatWentWrong(t *testing.T) {
	var late []byte
	r := measure(t, Load{Messages: 20}, func(s *script, n int64, payload []byte) {
		switch n {
		case 5: // comes after 7
			late = payload
		case 7:
			s.got(payload)
			s.got(late)
		case 9:
			s.got(payload)
			s.got(payload)
		case 11:
			s.fail()
		default:
			s.got([]byte(`{"not":"ours"}`))
			s.got(payload)
		}
	})
	if r.Messages != 20 || r.Repeated != 1 || r.Failed != 1 || r.Lost != 0 {
		t.Errorf("%+v", r)
	}
	// 6 overtook 5, and 12 the one that was refused.
	if r.Disorder != 2 {
		t.Errorf("disorder %d", r.Disorder)
	}
	if n := r.Latency.TotalCount(); n != 19 {
		t.Errorf("%d latencies", n)
	}
	if err := r.Sound(); err == nil || !strings.Contains(err.Error(), "messages refused: 1") {
		t.Errorf("got %v", err)
	}
}

func TestSound(t *testing.T) {
	r := measure(t, Load{Messages: 1000, Window: 3}, func(s *script, _ int64, payload []byte) { go s.got(payload) })
	if r.Messages != 1000 || r.Lost+r.Failed+r.Repeated != 0 {
		t.Errorf("%+v", r)
	}
	r = measure(t, Load{Messages: 10}, func(s *script, _ int64, payload []byte) { s.got(payload) })
	if err := r.Sound(); err != nil {
		t.Error(err)
	}
}

// The sender waits when the window is full.
func TestWindowOfTheLoad(t *testing.T) {
	open, most := 0, 0
	held := make(chan []byte, 100)
	r := measure(t, Load{Messages: 50, Window: 4}, func(s *script, n int64, payload []byte) {
		open++
		most = max(most, open)
		held <- payload
		if open == 4 || n == 50 { // the window is full: nothing more comes before something ends
			for ; open > 0; open-- {
				s.got(<-held)
			}
		}
	})
	if most != 4 || r.Messages != 50 {
		t.Errorf("%d under way, %d arrived", most, r.Messages)
	}
}

// A sender that waits for room which a lost message never makes is given up.
func TestLostInAFullWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		lose := &script{send: func(s *script, n int64, payload []byte) {
			if n != 3 {
				s.got(payload)
			}
		}}
		r, err := Measure(ctx, Load{Kind: Down, Size: 300, Things: []mapping.Thing{"a"}, Messages: 5, Window: 1}, lose, Gauges{})
		if err != nil || ctx.Err() != nil || r.Messages != 2 || r.Lost != 1 {
			t.Errorf("%d arrived, %d lost in %s, %v, %v", r.Messages, r.Lost, r.Elapsed, err, ctx.Err())
		}
	})
}

// At a rate the latency counts from when a message was due, however late the sender is.
func TestLateSender(t *testing.T) {
	r := measure(t, Load{Messages: 3, Rate: 1000}, func(s *script, n int64, payload []byte) {
		if n == 1 {
			time.Sleep(50 * time.Millisecond) // the way is blocked, and the next ones wait for it
		}
		s.got(payload)
	})
	if got := time.Duration(r.Latency.Min()) * time.Microsecond; got < 40*time.Millisecond {
		t.Errorf("least latency %s", got)
	}
}

// A duration ends, and what arrives in the warm-up is not measured.
func TestDuration(t *testing.T) {
	r := measure(t, Load{Rate: 1000, Duration: 100 * time.Millisecond, Warmup: 100 * time.Millisecond}, func(s *script, _ int64, payload []byte) { s.got(payload) })
	if r.Elapsed < 100*time.Millisecond || r.Messages < 1 || r.Lost != 0 || r.Own.CPU < 0 {
		t.Errorf("%+v", r)
	}
}

// Where messages are only counted there is no latency.
func TestCounted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := &counting{}
	r, err := Measure(ctx, Load{Kind: Up, Size: 300, Things: []mapping.Thing{"a"}, Messages: 30, Window: 10}, c, Gauges{})
	if err != nil || r.Messages != 30 || r.Latency.TotalCount() != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// counting tells how many were sent.
type counting struct{ sent chan struct{} }

func (c *counting) Open(context.Context, Load, func([]byte), func()) (Ends, error) {
	c.sent = make(chan struct{}, 100)
	return c, nil
}
func (c *counting) Send(int, int64, []byte) error        { c.sent <- struct{}{}; return nil }
func (c *counting) Close()                               {}
func (c *counting) Count(context.Context) (int64, error) { return int64(len(c.sent)), nil }

func TestBadLoads(t *testing.T) {
	good := Load{Kind: Up, Things: []mapping.Thing{"a"}, Size: 300, Messages: 1}
	for want, change := range map[string]func(l *Load){
		"kind":     func(l *Load) { l.Kind = "sideways" },
		"channel":  func(l *Load) { l.Channel = mapping.ShadowDelta },
		"things":   func(l *Load) { l.Things = nil },
		"size":     func(l *Load) { l.Size = 20 },
		"rate":     func(l *Load) { l.Rate = -1 },
		"window":   func(l *Load) { l.Window = -1 },
		"messages": func(l *Load) { l.Messages = -1 },
		"duration": func(l *Load) { l.Messages = 0 },
	} {
		l := good
		change(&l)
		if err := l.complete(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
