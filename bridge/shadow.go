package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"fleetbridge/mapping"
)

// Shadow is what the bridge knows of one Thing's shadow, and which versions were delivered to programs already.
//
// What is reported is the cloud's last word, and on top of it, in order, what programs reported here and the cloud
// has not confirmed: first what the broker has acknowledged (unconfirmed), then what is on its way (flight). What
// is still to be done, the delta, is computed whenever it is printed.
type Shadow struct {
	cfg     ShadowConfig
	bucket  ShadowView
	now     func() time.Time
	refresh func() // has the whole reported state sent once more; must not block

	mu          sync.Mutex
	known       []byte // reported: the cloud's, with what the broker has acknowledged; nil: nothing
	unconfirmed []byte // of that, a merge patch of what no document of the cloud has shown
	acked       ackMark
	flight      []*Report // on their way to the broker, in order
	reported    []byte    // known, with flight merged into it
	desired     []byte
	version     int64
	updatedAt   string
	cloud       cloudMark

	delta      mark
	undo       mark   // the delta's mark before the last GET
	deltaState []byte // of the last delta
	push       mark
	loop       loopGuard
	stale      int // deltas in a row that were older than delivered ones

	reports    int           // so far
	generation int           // grows when a report turns out to be refused
	faults     []fault       // while something is on its way
	refreshing bool          // the whole reported state is about to be sent once more
	base       chan struct{} // closed when reports need not wait for the cloud's document

	saver   saver
	running context.Context // of the Thing; nil: it does not run yet
	size    sizeNote
	// damage is why the stored document could not be read; nil: it could, or there was none.
	damage error
}

// ShadowConfig is what distinguishes one Thing's shadow from another's.
type ShadowConfig struct {
	Thing mapping.Thing
	// Merged has each report published as the whole reported state (RFC 7396).
	Merged bool
	// Fetches: there is an HTTP API, whose documents confirm what was reported. Without it the broker's word is the last.
	Fetches bool
	// MaxRecord is how many bytes the bucket takes, for key, value and note together; 0: no limit.
	MaxRecord int
}

// ackMark is when the broker acknowledged a report last, and which version was known then.
type ackMark struct {
	at      time.Time
	version int64
}

// cloudMark is the newest news from the cloud itself.
type cloudMark struct {
	fetched bool
	version int64     // of the last document
	at      time.Time // the cloud's clock: of the last document or delta
	older   int       // documents in a row that were refused as older
}

// shadowPause is how far the bucket may be behind in a burst of deltas.
const shadowPause = 20 * time.Millisecond

// LoadShadow reads what the last run knew: the document from its view, the delivered versions from the archive. If the
// document can't be read, damage says why, and the Thing starts without it: it is only a cache of the cloud's.
func LoadShadow(ctx context.Context, cfg ShadowConfig, b ShadowView, a Archive) (*Shadow, error) {
	s := &Shadow{cfg: cfg, bucket: b, now: time.Now, refresh: func() {}, base: make(chan struct{})}
	s.saver = saver{write: s.write, pause: shadowPause, thing: cfg.Thing, what: "to write the shadow document"}
	value, note, err := b.GetNoted(ctx, mapping.Token(string(cfg.Thing)))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("shadow of %s: %w", cfg.Thing, err)
	}
	if err == nil {
		s.damage = s.restore(value, note)
	}
	if !cfg.Merged || !cfg.Fetches || s.cloud.fetched {
		close(s.base)
	}
	for c, m := range map[mapping.Channel]*mark{mapping.ShadowDelta: &s.delta, mapping.ShadowDesired: &s.push} {
		last, err := a.Last(ctx, mapping.Address{Thing: cfg.Thing, Channel: c})
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("shadow of %s: last %s: %w", cfg.Thing, c, err)
		}
		*m = markOf(last)
	}
	return s, nil
}

// Known reports whether there is a document at all.
func (s *Shadow) Known() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isKnown()
}

func (s *Shadow) isKnown() bool { return s.reported != nil || s.desired != nil || s.version > 0 }

// Document prints the last known document.
func (s *Shadow) Document() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.document().print()
}

// document is what is known now. The caller holds the lock.
func (s *Shadow) document() document {
	return document{
		Reported: orEmpty(s.reported), Desired: orEmpty(s.desired), Delta: mapping.Missing(s.desired, s.reported),
		Version: s.version, UpdatedAt: s.updatedAt,
	}
}

// Save schedules a write of the document and calls then, if not nil, when it is durable. Once the Thing runs, the write is
// tried until the Thing ends, whatever becomes of ctx.
func (s *Shadow) Save(ctx context.Context, then func()) {
	s.mu.Lock()
	if s.running != nil {
		ctx = s.running
	}
	s.mu.Unlock()
	s.saver.save(ctx, then)
}

// setLifetime sets the context that ends with the Thing.
func (s *Shadow) setLifetime(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = ctx
}

func (s *Shadow) lifetime() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return context.Background()
	}
	return s.running
}

// changed marks the document as changed now, and takes over a newer version. The caller holds the lock.
func (s *Shadow) changed(version int64) {
	s.version = max(s.version, version)
	s.updatedAt = s.now().UTC().Format(time.RFC3339Nano)
}

// AwaitBase waits until reports may be merged. The first report of a new gateway would erase the rest of what the cloud has
// as reported. So it waits until the cloud's document is known, or until GiveUpBase is called. It returns an error only
// when ctx ends.
func (s *Shadow) AwaitBase(ctx context.Context) error {
	select {
	case <-s.base:
		return nil
	default:
	}
	select {
	case <-s.base:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// GiveUpBase lets reports go although the cloud's document is not known, and reports whether some had to wait for it.
func (s *Shadow) GiveUpBase() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.giveUpBase()
}

func (s *Shadow) giveUpBase() bool {
	if closed(s.base) {
		return false
	}
	close(s.base)
	return true
}
