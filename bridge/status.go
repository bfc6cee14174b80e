package bridge

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"fleetbridge/mapping"
)

// ShadowState says how much a Thing's document in FLEETS_SHADOW is worth.
type ShadowState string

const (
	ShadowKnown   ShadowState = "known"   // fetched on this connection
	ShadowStale   ShadowState = "stale"   // from an earlier one; the HTTP API can't be reached
	ShadowUnknown ShadowState = "unknown" // never fetched
)

// Status is the value in the bucket FLEETS_STATUS.
type Status struct {
	Connected      bool        `json:"connected"`
	Since          time.Time   `json:"since"` // when Connected changed last
	Subscribed     bool        `json:"subscribed"`
	SessionPresent bool        `json:"sessionPresent"`
	Shadow         ShadowState `json:"shadow"`
	Queued         uint64      `json:"queued"` // messages that wait for the broker
	LastError      string      `json:"lastError"`
	// Store is why the gateway's store takes nothing now; empty: it does. It shows in LastError.
	Store string `json:"-"`
	// Clock is by how much the gateway's clock and the cloud's differ. It shows in LastError if nothing else does.
	Clock string `json:"-"`
}

// StatusBoard keeps one Thing's status and writes it to the bucket when it changes.
type StatusBoard struct {
	mu     sync.Mutex
	status Status
	gone   bool
	saver  saver
}

// NewStatusBoard starts with a Thing that is not connected.
func NewStatusBoard(t mapping.Thing, b StatusView) *StatusBoard {
	s := &StatusBoard{status: Status{Since: time.Now().UTC(), Shadow: ShadowUnknown}}
	s.saver.thing, s.saver.what = t, "to write the status"
	s.saver.write = func(ctx context.Context) error {
		if s.removed() {
			return b.Delete(ctx, mapping.Token(string(t)))
		}
		now := s.Status()
		if now.Store != "" {
			now.LastError = now.Store
		}
		now.LastError = cmp.Or(now.LastError, now.Clock)
		value, err := json.Marshal(now)
		if err != nil {
			return fmt.Errorf("status of %s: %w", t, err)
		}
		return b.Put(ctx, mapping.Token(string(t)), value)
	}
	return s
}

// Status returns a copy.
func (s *StatusBoard) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Change edits the status and has it written if that changed anything.
func (s *StatusBoard) Change(ctx context.Context, edit func(*Status)) {
	s.mu.Lock()
	before := s.status
	edit(&s.status)
	changed := s.status != before
	s.mu.Unlock()
	if changed {
		s.saver.save(ctx, nil)
	}
}

// Save writes the status whether it changed or not.
func (s *StatusBoard) Save(ctx context.Context) { s.saver.save(ctx, nil) }

// Settle returns when every change so far is in the bucket, or ctx ends.
func (s *StatusBoard) Settle(ctx context.Context) { s.saver.settle(ctx) }

// Remove takes the status out of the bucket, for good, and returns when it is out or ctx ends.
func (s *StatusBoard) Remove(ctx context.Context) {
	s.mu.Lock()
	s.gone = true
	s.mu.Unlock()
	out := make(chan struct{})
	s.saver.save(ctx, func() { close(out) })
	select {
	case <-out:
	case <-ctx.Done():
	}
}

func (s *StatusBoard) removed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}
