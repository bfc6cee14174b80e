package access

import (
	"context"
	"sync"
	"testing"
	"time"

	"fleetbridge/internal/flow"

	"golang.org/x/crypto/bcrypt"
)

func hashOf(t *testing.T, password string, cost int) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func countedGuesses(hashes ...string) *guesses {
	g := newGuesses()
	g.set(hashes)
	return g
}

func (g *guesses) compared(o guess) (right bool, n int) {
	o.judged = func() func() { n++; return func() {} }
	right = g.check(o)
	return right, n
}

func TestGuesses(t *testing.T) {
	t.Parallel()
	hash, other := hashOf(t, "secret", bcrypt.MinCost), hashOf(t, "other", bcrypt.MinCost+1)
	g := countedGuesses(hash, other)
	for _, c := range []struct {
		name  string
		o     guess
		right bool
		n     int
	}{
		{"wrong", guess{line: "a", hash: hash, password: "x"}, false, 1},
		{"wrong again", guess{line: "a", hash: hash, password: "x"}, false, 1},
		{"nobody's name costs the same", guess{password: "secret"}, false, 1},
		{"wrong for a password that is no hash", guess{line: "c", password: "x"}, false, 1},
		{"right", guess{line: "a", hash: hash, password: "secret"}, true, 1},
		{"right again", guess{line: "a", hash: hash, password: "secret"}, true, 0},
		{"another's password", guess{line: "b", hash: other, password: "secret"}, false, 1},
		{"the hash", guess{line: "a", hash: hash, password: hash}, false, 1},
		{"empty", guess{line: "a", hash: hash}, false, 1},
	} {
		if right, n := g.compared(c.o); right != c.right || n != c.n {
			t.Errorf("%s: %v with %d comparisons", c.name, right, n)
		}
	}
	if g.decoy != other {
		t.Error("names that nobody has cost less than others")
	}
	g.set([]string{other})
	if right, n := g.compared(guess{line: "a", hash: hash, password: "secret"}); !right || n != 1 {
		t.Error("a hash that was removed is still known")
	}
	if right, n := countedGuesses().compared(guess{password: "x"}); right || n != 0 {
		t.Error("compared where there are no hashes")
	}
}

// TestGuessesInLine: a full line costs nothing, and holds up no other.
func TestGuessesInLine(t *testing.T) {
	t.Parallel()
	hash := hashOf(t, "secret", bcrypt.MinCost)
	g := countedGuesses(hash)
	g.slots = make(chan struct{}, 1)
	g.slots <- struct{}{} // one runs, and does not end
	gone := make(chan struct{})
	var waiting sync.WaitGroup
	for range lineLength {
		waiting.Go(func() { g.compared(guess{line: "a", hash: hash, password: "x", gone: gone}) })
	}
	until(t, "the line is full", func() bool { g.mu.Lock(); defer g.mu.Unlock(); return g.lines["a"] == lineLength })
	for range 1000 {
		if _, n := g.compared(guess{line: "a", hash: hash, password: "y"}); n != 0 {
			t.Fatal("more are in work than a line holds")
		}
	}
	other := make(chan bool)
	go func() { right, _ := g.compared(guess{line: "b", hash: hash, password: "secret"}); other <- right }()
	until(t, "another line moves", func() bool { g.mu.Lock(); defer g.mu.Unlock(); return g.lines["b"] == 1 })
	close(gone) // those in line hang up
	waiting.Wait()
	<-g.slots
	if !<-other {
		t.Error("a right password behind others is refused")
	}
	if g.all != 0 || len(g.lines) != 0 {
		t.Errorf("%d left, %v", g.all, g.lines)
	}
}

// until waits until f is true.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for !f() {
		if flow.Sleep(ctx, time.Millisecond) != nil {
			t.Fatalf("not in time: %s", what)
		}
	}
}
