package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"runtime"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// guesses compares passwords with bcrypt hashes, which costs a lot on purpose: only so many at a time, each name in a
// short line of its own. Passwords that were right are known again without it.
type guesses struct {
	key   []byte        // of this process
	slots chan struct{} // for each comparison that runs

	mu    sync.Mutex
	decoy string            // a hash that costs as much as any; names that nobody has are compared with it
	right map[string][]byte // digest of the right password, by hash
	lines map[string]int    // how many are compared or wait, by name; all unknown names share one
	all   int
	took  time.Duration // by the last comparison, with the wait for it
}

const (
	// lineLength is how many guesses of a name may be in work. A comparison at cost 12 takes a quarter of a second,
	// and who logs in has two seconds.
	lineLength = 2
	// allLines is how many guesses may be in work in all.
	allLines = 32
	// longestRest bounds the pause before a refusal.
	longestRest = 2 * time.Second
)

func newGuesses() *guesses {
	g := &guesses{key: make([]byte, sha256.Size), slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), right: map[string][]byte{}, lines: map[string]int{}}
	_, _ = rand.Read(g.key) // never fails
	return g
}

// set forgets what is no user's hash any more.
func (g *guesses) set(hashes []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	kept, most := map[string][]byte{}, 0
	g.decoy = ""
	for _, h := range hashes {
		if d := g.right[h]; d != nil {
			kept[h] = d
		}
		if cost, err := bcrypt.Cost([]byte(h)); err == nil && cost > most {
			g.decoy, most = h, cost
		}
	}
	g.right = kept
}

// guess is one attempt to log in.
type guess struct {
	line     string // the user's name; empty: there is none of that name
	hash     string // empty: the password is wrong already, and only the time is to be the same
	password string
	gone     <-chan struct{}      // closed when the client is
	judged   func() (done func()) // called while it is compared
}

// check reports whether the password is right. What finds its line full is wrong after a pause.
func (g *guesses) check(o guess) bool {
	digest := g.digest(o.password)
	g.mu.Lock()
	known, decoy, usual := g.right[o.hash], g.decoy, g.took
	if o.hash != "" && known != nil && hmac.Equal(known, digest) {
		g.mu.Unlock()
		return true
	}
	if decoy == "" && o.hash == "" { // no password is compared that way
		g.mu.Unlock()
		return false
	}
	if g.lines[o.line] >= lineLength || g.all >= allLines {
		g.mu.Unlock()
		rest(min(usual, longestRest), o.gone)
		return false
	}
	g.lines[o.line]++
	g.all++
	g.mu.Unlock()

	began := time.Now()
	good := g.compare(o, decoy)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.took = time.Since(began)
	g.all--
	if g.lines[o.line]--; g.lines[o.line] == 0 {
		delete(g.lines, o.line)
	}
	if good {
		g.right[o.hash] = digest
	}
	return good
}

func (g *guesses) compare(o guess, decoy string) bool {
	defer o.judged()()
	select {
	case g.slots <- struct{}{}:
	case <-o.gone:
		return false
	}
	defer func() { <-g.slots }()
	if o.hash == "" {
		_ = bcrypt.CompareHashAndPassword([]byte(decoy), []byte(o.password))
		return false
	}
	return bcrypt.CompareHashAndPassword([]byte(o.hash), []byte(o.password)) == nil
}

func (g *guesses) digest(password string) []byte {
	h := hmac.New(sha256.New, g.key)
	_, _ = h.Write([]byte(password))
	return h.Sum(nil)
}

// rest lets as much time pass as a comparison takes, so that a refusal says nothing about the name.
func rest(d time.Duration, gone <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-gone:
	}
}
