package console

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"fleetbridge/bridge/gateway"
)

// people are users of the console: alice's password is in clear, bob's a hash.
func people(t *testing.T) []gateway.ConsoleUser {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("bob's password"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return []gateway.ConsoleUser{
		{Name: "alice", Password: "correct horse", Role: "operator"},
		{Name: "bob", Password: gateway.Secret(hash), Role: "viewer"},
	}
}

// enter logs in with a name and a password.
func (s *site) enter(user, password string) (int, loginAnswer, string) {
	s.t.Helper()
	code, text := s.call("", "POST", base+"session", map[string]string{"user": user, "password": password})
	if code != http.StatusOK {
		return code, loginAnswer{}, text
	}
	return code, decode[loginAnswer](s.t, text), text
}

// unhurried lets a test guess as often as it likes.
func (s *site) unhurried() {
	var clock atomic.Int64
	s.console.words.now = func() time.Time { return time.Unix(60*clock.Add(1), 0) }
}

// Users of the configuration log in with their password, as what they are; whoever gives a wrong one learns no name.
func TestPasswords(t *testing.T) {
	s := open(t, func(c *gateway.Config) { c.Console.Users = people(t) })
	s.unhurried()
	if code, text := s.call("", "GET", base+"session", nil); code != http.StatusOK || !strings.Contains(text, `"passwords":true`) {
		t.Errorf("ways: %d %s", code, text)
	}
	for user, want := range map[string]struct{ password, role string }{"alice": {"correct horse", "operator"}, "bob": {"bob's password", "viewer"}} {
		code, answer, text := s.enter(user, want.password)
		if code != http.StatusOK || answer.Role != want.role || (len(answer.Actions) > 0) != (want.role == "operator") {
			t.Fatalf("%s: %d %s", user, code, text)
		}
		if code, text := s.call(answer.Token, "GET", base+"overview", nil); code != http.StatusOK {
			t.Errorf("%s: %d %s", user, code, text)
		}
		if code, _ := s.call(answer.Token, "GET", base+"config", nil); (code == http.StatusOK) != (want.role == "operator") {
			t.Errorf("%s sees the configuration: %d", user, code)
		}
		raised := strings.Replace(answer.Token, ".viewer.", ".operator.", 1)
		other := strings.Replace(answer.Token, user+":", map[string]string{"alice": "bob", "bob": "alice"}[user]+":", 1)
		for _, bad := range []string{raised + "x", other, strings.Replace(answer.Token, user+":", "", 1), strings.Replace(answer.Token, user+":", "nobody:", 1)} {
			if code, _ := s.call(bad, "GET", base+"overview", nil); code != http.StatusUnauthorized {
				t.Errorf("a token of %s that was changed: %d", user, code)
			}
		}
	}
	_, _, wrong := s.enter("alice", "wrong")
	for _, c := range [][2]string{{"alice", "wrong"}, {"alice", ""}, {"", "correct horse"}, {"nobody", "correct horse"}, {"bob", string(s.cfg.Console.Users[1].Password)}, {"alice", strings.Repeat("x", 1000)}} {
		if code, _, text := s.enter(c[0], c[1]); code != http.StatusUnauthorized || text != wrong {
			t.Errorf("%q: %d %s", c, code, text)
		}
	}
	if code, text := s.call("", "POST", base+"session", `{"link":"x","user":"alice"}`); code != http.StatusBadRequest {
		t.Errorf("both: %d %s", code, text)
	}
	for _, e := range s.gw.Events() {
		if text := fmt.Sprint(e); strings.Contains(text, "correct horse") || strings.Contains(text, "nobody") {
			t.Errorf("the log has %s", text)
		}
	}
}

// Who is removed, or gets another password or role, is logged out by the reload. Links don't mind.
func TestPasswordsChange(t *testing.T) {
	s := open(t, func(c *gateway.Config) { c.Console.Users = people(t) })
	s.unhurried()
	users := func(u []gateway.ConsoleUser) {
		t.Helper()
		next := *s.cfg
		next.Console.Users = u
		if err := s.gw.Reload(s.context(), &next); err != nil {
			t.Fatal(err)
		}
	}
	for name, edit := range map[string]func(u []gateway.ConsoleUser) []gateway.ConsoleUser{
		"another password": func(u []gateway.ConsoleUser) []gateway.ConsoleUser { u[0].Password = "battery"; return u },
		"another role":     func(u []gateway.ConsoleUser) []gateway.ConsoleUser { u[0].Role = "viewer"; return u },
		"removed":          func(u []gateway.ConsoleUser) []gateway.ConsoleUser { return u[1:] },
		"all removed":      func([]gateway.ConsoleUser) []gateway.ConsoleUser { return nil },
	} {
		users(people(t))
		_, answer, _ := s.enter("alice", "correct horse")
		if code, _ := s.call(answer.Token, "GET", base+"config", nil); code != http.StatusOK {
			t.Fatalf("%s, before: %d", name, code)
		}
		users(edit(people(t)))
		if code, _ := s.call(answer.Token, "GET", base+"overview", nil); code != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, code)
		}
		if code, _ := s.call(s.token, "GET", base+"overview", nil); code != http.StatusOK {
			t.Errorf("%s, for who came by a link: %d", name, code)
		}
	}
	users(nil)
	if code, _, text := s.enter("alice", "correct horse"); code != http.StatusUnauthorized || !strings.Contains(text, "fleetbridge console") {
		t.Errorf("without users: %d %s", code, text)
	}
}

// Few guesses are judged, of one address fewer than of all, and what is not judged is said.
func TestGuessesAreFew(t *testing.T) {
	s := open(t, func(c *gateway.Config) { c.Console.Users = people(t) })
	s.console.words.now = func() time.Time { return time.Unix(1, 0) }
	for range guessesOfOne {
		if code, _, text := s.enter("alice", "wrong"); code != http.StatusUnauthorized {
			t.Fatalf("%d %s", code, text)
		}
	}
	answer := s.do("", "POST", base+"session", `{"user":"alice","password":"correct horse"}`)
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusTooManyRequests || answer.Header.Get("Retry-After") != "1" {
		t.Errorf("one more: %d %v", answer.StatusCode, answer.Header)
	}
	if s.login(true) == "" {
		t.Error("a link is refused")
	}
	clock := time.Unix(0, 0)
	p := newPasswords(func() []gateway.ConsoleUser { return nil })
	p.now = func() time.Time { return clock }
	admitted := func(n int, from string) (out int) {
		for range n {
			if judged, ok := p.admits(from); ok {
				if _, ok := p.admits(from); ok {
					t.Errorf("two of %s are judged at once", from)
				}
				judged()
				out++
			}
		}
		return out
	}
	clock = clock.Add(time.Hour)
	for i, c := range []struct {
		from string
		want int
	}{{"10.0.0.1:1", 5}, {"10.0.0.1:2", 1}, {"10.0.0.2:1", 5}, {"[2001:db8::1]:1", 5}, {"[2001:db8::2]:1", 1}, {"[2001:db8:0:1::1]:1", 5}, {"nonsense", 5}} {
		if got := admitted(100, c.from); got != c.want {
			t.Errorf("%d: %d of %s are judged, not %d", i, got, c.from, c.want)
		}
		clock = clock.Add(time.Second)
	}
	if a, b := admitted(3, "10.0.0.3:1"), admitted(100, "10.0.0.4:1"); a != 3 || b != guessesInAll-3 {
		t.Errorf("at once, %d and %d are judged", a, b)
	}
	for i := range 10 * maxGuessers {
		clock = clock.Add(time.Second)
		p.admits(fmt.Sprintf("10.1.%d.%d:1", i/250, i%250))
	}
	if len(p.from) > maxGuessers {
		t.Errorf("%d addresses are known", len(p.from))
	}
}

// A guess costs the same for every name, and one is judged at a time.
func TestGuessesCostTheSame(t *testing.T) {
	if err := bcrypt.CompareHashAndPassword(decoy(bcrypt.MinCost), []byte("x")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		t.Fatalf("a decoy is not compared: %v", err)
	}
	hash := func(cost int) gateway.Secret { return gateway.Secret(decoy(cost)) }
	p := newPasswords(func() []gateway.ConsoleUser {
		return []gateway.ConsoleUser{{Name: "clear", Password: "x"}, {Name: "cheap", Password: hash(4)}, {Name: "usual", Password: hash(10)}, {Name: "dear", Password: hash(14)}}
	})
	var work, running, most atomic.Int64
	p.compare = func(hash, _ []byte) error {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		cost, err := bcrypt.Cost(hash)
		if err != nil {
			t.Errorf("%s is no hash: %v", hash, err)
		}
		work.Add(1 << cost)
		return bcrypt.ErrMismatchedHashAndPassword
	}
	for _, name := range []string{"clear", "cheap", "usual", "dear", "nobody", ""} {
		work.Store(0)
		if _, ok, err := p.right(t.Context(), name, "wrong"); ok || err != nil || work.Load() != 1<<14 {
			t.Errorf("%s: %v %v, work %d", name, ok, err, work.Load())
		}
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { _, _, _ = p.right(t.Context(), "dear", "wrong") })
	}
	all.Wait()
	if most.Load() != 1 {
		t.Errorf("%d are judged at a time", most.Load())
	}
}
