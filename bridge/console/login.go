package console

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// role is what somebody may do.
type role int

const (
	nobody role = iota
	viewer
	operator // may do what console.actions lists, and see the configuration
)

func (r role) String() string { return [...]string{"nobody", "viewer", "operator"}[r] }

func parseRole(s string) role {
	for _, r := range []role{viewer, operator} {
		if r.String() == s {
			return r
		}
	}
	return nobody
}

const (
	linkTime  = 2 * time.Minute
	tokenTime = 12 * time.Hour
	maxLinks  = 32
	keyBytes  = 32
)

// session is who asks.
type session struct {
	role    role
	expires time.Time
	id      string // of the login, for the log; with user: before it, if that is how somebody came in
}

// logins make links, which are used once, and tokens, which are signed. Nobody guesses either. Both end with the process:
// while the bridge is stopped somebody else may listen on its port, and pages that are still open send him their tokens.
type logins struct {
	now  func() time.Time
	mark func(user string) (mark string, known bool) // of a user's password and role, as they are now

	mu    sync.Mutex
	key   []byte
	links map[[sha256.Size]byte]offer
}

// offer is a link that nobody has used yet.
type offer struct {
	role  role
	until time.Time
}

func newLogins() *logins {
	l := &logins{}
	l.revoke()
	return l
}

// revoke makes a new key, so that no token or link is valid any more.
func (l *logins) revoke() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.key = make([]byte, keyBytes)
	_, _ = rand.Read(l.key) // never fails
	clear(l.links)
}

// link makes a code for one login. Only the newest unused codes are kept.
func (l *logins) link(r role) string {
	code := rand.Text() // 130 bits
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.time()
	for len(l.links) >= maxLinks {
		var first [sha256.Size]byte
		until := now.Add(2 * linkTime)
		for k, o := range l.links {
			if o.until.Before(until) {
				first, until = k, o.until
			}
		}
		delete(l.links, first)
	}
	if l.links == nil {
		l.links = map[[sha256.Size]byte]offer{}
	}
	l.links[sha256.Sum256([]byte(code))] = offer{r, now.Add(linkTime)}
	return code
}

// enter returns a token for a code, which is used up.
func (l *logins) enter(code string) (token string, s session, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum, now := sha256.Sum256([]byte(code)), l.time()
	o, known := l.links[sum]
	delete(l.links, sum)
	if !known || now.After(o.until) {
		return "", s, false
	}
	token, s = l.issue(o.role, rand.Text()[:8], "")
	return token, s, true
}

// admit returns a token for a user who has given the password. mark is of that password.
func (l *logins) admit(r role, user, mark string) (token string, s session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.issue(r, user+":"+rand.Text()[:8], mark)
}

// issue is called with the lock held.
func (l *logins) issue(r role, id, mark string) (token string, s session) {
	s = session{role: r, expires: l.time().Add(tokenTime).UTC().Truncate(time.Second), id: id}
	text := fmt.Sprintf("1.%s.%d.%s", s.role, s.expires.Unix(), s.id)
	return text + "." + l.sign(text, mark), s
}

// session is who a token was given to.
func (l *logins) session(token string) (s session, ok bool) {
	at := strings.LastIndexByte(token, '.')
	if at < 0 || len(token) > 200 {
		return s, false
	}
	text := token[:at]
	parts, mark := strings.Split(text, "."), ""
	if user, _, named := strings.Cut(parts[len(parts)-1], ":"); named {
		var known bool
		if mark, known = l.mark(user); !known {
			return s, false
		}
	}
	l.mu.Lock()
	want := l.sign(text, mark)
	l.mu.Unlock()
	if !hmac.Equal([]byte(want), []byte(token[at+1:])) || len(parts) != 4 || parts[0] != "1" {
		return s, false
	}
	seconds, err := strconv.ParseInt(parts[2], 10, 64)
	s = session{role: parseRole(parts[1]), expires: time.Unix(seconds, 0).UTC(), id: parts[3]}
	return s, err == nil && s.role != nobody && l.time().Before(s.expires)
}

// good reports whether a token is worth anything still.
func (l *logins) good(token string) bool {
	_, ok := l.session(token)
	return ok
}

func (l *logins) time() time.Time {
	if l.now != nil {
		return l.now()
	}
	return time.Now()
}

// sign is called with the lock held.
func (l *logins) sign(text, mark string) string {
	mac := hmac.New(sha256.New, l.key)
	mac.Write([]byte(text + "\x00" + mark))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
