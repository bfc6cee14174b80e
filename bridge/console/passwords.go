package console

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"fleetbridge/bridge/gateway"
	"fleetbridge/internal/flow"
)

// Bounds of guesses at passwords.
const (
	guessesInAll = 5    // a second, and at once
	guessesOfOne = 5    // at once, and then one a second, of one address
	maxGuessers  = 1024 // addresses that are known
)

// passwords judges who logs in by name. To compare a password costs much on purpose, so few guesses are judged, and one at a
// time. Each costs the same, whether there is a user of that name or not.
type passwords struct {
	users   func() []gateway.ConsoleUser
	now     func() time.Time
	compare func(hash, password []byte) error
	one     chan struct{} // held by the guess that is judged

	mu   sync.Mutex
	all  bucket
	from map[netip.Prefix]*bucket
}

func newPasswords(users func() []gateway.ConsoleUser) *passwords {
	return &passwords{users: users, now: time.Now, compare: bcrypt.CompareHashAndPassword, one: make(chan struct{}, 1), from: map[netip.Prefix]*bucket{}}
}

// bucket holds what may be taken at once, and fills with time.
type bucket struct {
	taken  float64
	at     time.Time
	judged bool // a guess of this address is judged, or waits for that
}

// take reports whether there was one of size, of which rate come back in a second.
func (b *bucket) take(now time.Time, size, rate float64) bool {
	b.taken = max(0, b.taken-now.Sub(b.at).Seconds()*rate)
	b.at = now
	if b.taken+1 > size {
		return false
	}
	b.taken++
	return true
}

// admits reports whether a guess from an address is judged. One address leaves room for others, also in the line of those that
// wait. judged is called when it was.
func (p *passwords) admits(remote string) (judged func(), ok bool) {
	var source netip.Prefix // of what has no address, all the same
	if a, err := netip.ParseAddrPort(remote); err == nil {
		ip := a.Addr().Unmap()
		source, _ = ip.WithZone("").Prefix(min(ip.BitLen(), 64)) // of IPv6 everybody has many
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.from[source]
	if b == nil {
		if len(p.from) >= maxGuessers {
			clear(p.from) // all together are still bounded
		}
		b = &bucket{}
		p.from[source] = b
	}
	now := p.now()
	if b.judged || !b.take(now, guessesOfOne, 1) || !p.all.take(now, guessesInAll, guessesInAll) {
		return nil, false
	}
	b.judged = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		b.judged = false
	}, true
}

// user finds a user in the configuration of now.
func (p *passwords) user(name string) (gateway.ConsoleUser, bool) {
	for _, u := range p.users() {
		if u.Name == name {
			return u, true
		}
	}
	return gateway.ConsoleUser{}, false
}

// right reports whether a name has a password. An error says that it could not be judged in time.
func (p *passwords) right(ctx context.Context, name, password string) (u gateway.ConsoleUser, ok bool, err error) {
	select {
	case p.one <- struct{}{}:
		defer func() { <-p.one }()
	case <-ctx.Done():
		return u, false, ctx.Err()
	}
	u, known := p.user(name)
	most := bcrypt.DefaultCost
	for _, other := range p.users() {
		if cost, err := bcrypt.Cost([]byte(other.Password)); err == nil {
			most = max(most, cost)
		}
	}
	cost, err := bcrypt.Cost([]byte(u.Password))
	if err != nil { // it is no hash
		want, given := sha256.Sum256([]byte(u.Password)), sha256.Sum256([]byte(password))
		ok = subtle.ConstantTimeCompare(want[:], given[:]) == 1 && known
		_ = p.compare(decoy(most), []byte(password))
		return u, ok, nil
	}
	ok = p.compare([]byte(u.Password), []byte(password)) == nil && known
	for ; cost < most; cost++ { // each costs twice as much as the one before, so the sum is the same for all
		_ = p.compare(decoy(cost), []byte(password))
	}
	return u, ok, nil
}

// decoy is a hash of nobody's.
func decoy(cost int) []byte { return fmt.Appendf(nil, "$2a$%02d$%s", cost, strings.Repeat(".", 53)) }

// mark is of a user's password and role: tokens that were signed with another one are worth nothing.
func (p *passwords) mark(name string) (string, bool) {
	u, known := p.user(name)
	return markOf(u), known
}

func markOf(u gateway.ConsoleUser) string {
	sum := sha256.Sum256([]byte(u.Role + "\x00" + string(u.Password)))
	return string(sum[:])
}

func (c *Console) byPassword(q *request, name, password string) (token string, s session, err error) {
	if len(c.gateway.Config().Console.Users) == 0 {
		return "", s, refuse(http.StatusUnauthorized, "nobody has a password here (console.users); fleetbridge console prints a link that logs in")
	}
	judged, ok := c.words.admits(q.RemoteAddr)
	if !ok {
		return "", s, refuse(http.StatusTooManyRequests, "too many have tried to log in just now; wait some seconds and try again, or use a link of fleetbridge console")
	}
	defer judged()
	u, ok, err := c.words.right(q.Context(), name, password)
	switch {
	case err != nil:
		return "", s, refuse(http.StatusTooManyRequests, "others log in just now; try again")
	case !ok:
		return "", s, refuse(http.StatusUnauthorized, "the name or the password is wrong")
	}
	token, s = c.logins.admit(parseRole(u.Role), u.Name, markOf(u))
	return token, s, nil
}

// wrongLogins are those that did not come in since that was last logged.
type wrongLogins struct {
	mu   sync.Mutex
	n    int
	said time.Time
}

// tell logs the first, and then how many there were in a minute: strangers may try without end.
func (w *wrongLogins) tell(log *slog.Logger, from string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	if flow.Due(&w.said, time.Now()) {
		log.Info("somebody tried to log in to the console and was refused", "times", w.n, "from", from, "reason", err)
		w.n = 0
	}
}
