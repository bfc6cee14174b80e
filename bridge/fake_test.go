package bridge

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// The edges, as small as they can be. That they keep what the ports promise is asked in ports_test.go, by the list that
// the real ones go through, too.

type memory struct {
	mu     sync.Mutex
	values map[string][]byte
	notes  map[string][]byte
	fail   error // every method returns it while set
	writes int
}

func newMemory() *memory { return &memory{values: map[string][]byte{}, notes: map[string][]byte{}} }

func (b *memory) Get(_ context.Context, key string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if v, ok := b.values[key]; ok || b.fail != nil {
		return slices.Clone(v), b.fail
	}
	return nil, ErrNotFound
}

func (b *memory) Put(_ context.Context, key string, value []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail == nil {
		b.values[key] = slices.Clone(value)
		b.writes++
	}
	return b.fail
}

func (b *memory) GetNoted(ctx context.Context, key string) (value, note []byte, err error) {
	value, err = b.Get(ctx, key)
	b.mu.Lock()
	defer b.mu.Unlock()
	return value, b.notes[key], err
}

func (b *memory) PutNoted(ctx context.Context, key string, value, note []byte) error {
	err := b.Put(ctx, key, value)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.notes[key] = note
	}
	return err
}

func (b *memory) Create(_ context.Context, key string, value []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.values[key]; ok && b.fail == nil {
		return ErrExists
	}
	if b.fail == nil {
		b.values[key] = slices.Clone(value)
	}
	return b.fail
}

func (b *memory) Delete(_ context.Context, key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.values, key)
	delete(b.notes, key)
	return b.fail
}

func (b *memory) List(_ context.Context, prefix string, f func(string, []byte) error) error {
	b.mu.Lock()
	now, fail := maps.Clone(b.values), b.fail
	b.mu.Unlock()
	for k, v := range now {
		if strings.HasPrefix(k, prefix) {
			if err := f(k, v); err != nil {
				return err
			}
		}
	}
	return fail
}

func (b *memory) set(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = err
}

// sink keeps what it is sent; with hold it answers only when told.
type sink struct {
	mu   sync.Mutex
	sent []Message
	done []func(error)
	hold bool
	err  error
	on   func(Message) // is told of each message that was taken
}

func (s *sink) Send(_ context.Context, m Message, done func(error)) error {
	s.mu.Lock()
	s.sent = append(s.sent, m)
	s.done = append(s.done, done)
	hold, err := s.hold, s.err
	s.mu.Unlock()
	if !hold {
		done(err)
	}
	if s.on != nil {
		s.on(m)
	}
	return nil
}

func (s *sink) Ask(ctx context.Context, m Message, done func(error)) error {
	return s.Send(ctx, m, done)
}

func (s *sink) messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.sent...)
}

func (s *sink) answer(i int, err error) {
	s.mu.Lock()
	done := s.done[i]
	s.mu.Unlock()
	done(err)
}

// graveyard keeps dead letters.
type graveyard struct {
	mu      sync.Mutex
	letters []Letter
}

func (g *graveyard) Bury(_ context.Context, l Letter, done func(error)) error {
	g.mu.Lock()
	g.letters = append(g.letters, l)
	g.mu.Unlock()
	done(nil)
	return nil
}

// archive holds the last message of an address.
type archive map[mapping.Address]Message

func (a archive) Last(_ context.Context, at mapping.Address) (Message, error) {
	if m, ok := a[at]; ok {
		return m, nil
	}
	return Message{}, ErrNotFound
}

// handler serves commands with a function.
type handler func(ctx context.Context, c Call) (Reply, error)

func (h handler) Listen(mapping.Thing, string) (Line, error) { return deafLine{h}, nil }

// deafLine hears no reply to an earlier call.
type deafLine struct{ handler }

func (l deafLine) Call(ctx context.Context, c Call) (Reply, error) { return l.handler(ctx, c) }
func (deafLine) Wait(ctx context.Context) (Reply, error)           { <-ctx.Done(); return Reply{}, ctx.Err() }
func (deafLine) Close()                                            {}

// fates collects what an Observer is told.
type fates struct {
	mu  sync.Mutex
	all []Fate
}

func (f *fates) Outcome(x Fate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, x)
}

func (f *fates) count(o Outcome) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.all {
		if x.Outcome == o {
			n++
		}
	}
	return n
}

// The catalog's channels must not be one bubble's: it is made outside of all.
var theCatalog, errCatalog = schemas.New(schemas.Options{})

func catalog(t testing.TB) *schemas.Catalog {
	t.Helper()
	if errCatalog != nil {
		t.Fatal(errCatalog)
	}
	return theCatalog
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

const pump07 = mapping.Thing("pump-07")

func at(c mapping.Channel, id string) mapping.Address {
	return mapping.Address{Thing: pump07, Channel: c, ID: id}
}

func arriving(c mapping.Channel, id, payload string) Delivery {
	return Delivery{Message: Message{Address: at(c, id), Payload: []byte(payload), Received: time.Now()}, Settle: func() {}}
}

func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}
