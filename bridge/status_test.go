package bridge

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fleetbridge/mapping"
)

// What a stop waits for: the last change is in the bucket, however slow that is, or the time is over.
func TestStatusSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory()
		board := NewStatusBoard(pump07, slow{b, time.Second})
		began := time.Now()
		board.Settle(t.Context()) // nothing was changed
		if d := time.Since(began); d > 0 {
			t.Errorf("it waited %v for nothing", d)
		}
		board.Change(t.Context(), func(s *Status) { s.Connected = true })
		board.Change(t.Context(), func(s *Status) { s.Connected, s.LastError = false, "stopped" })
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		board.Settle(short)
		board.Settle(t.Context())
		if got, err := b.Get(t.Context(), mapping.Token(string(pump07))); err != nil || !strings.Contains(string(got), `"stopped"`) {
			t.Errorf("%s %v", got, err)
		}
		if d := time.Since(began); d > 3*time.Second {
			t.Errorf("it waited %v", d)
		}
	})
}
