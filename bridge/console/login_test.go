package console

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A link is used once, and within two minutes. A token is good for twelve hours, and until the key is another.
func TestLogins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.key")
	clock := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	reopen := func() *logins {
		l, err := openLogins(path)
		if err != nil {
			t.Fatal(err)
		}
		l.now = func() time.Time { return clock }
		return l
	}
	l := reopen()
	enter := func(code string) string {
		t.Helper()
		token, _, ok := l.enter(code)
		if !ok {
			t.Fatal("the link is not good")
		}
		return token
	}
	used := l.link(viewer)
	token := enter(used)
	if _, _, ok := l.enter(used); ok {
		t.Error("a link is good twice")
	}
	late := l.link(operator)
	clock = clock.Add(linkTime + time.Second)
	if _, _, ok := l.enter(late); ok {
		t.Error("a link is good for ever")
	}
	for _, code := range []string{"", "x", late[1:]} {
		if _, _, ok := l.enter(code); ok {
			t.Errorf("%q is a link", code)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v %v", info.Mode(), err)
	}
	l = reopen()
	if s, ok := l.session(token); !ok || s.role != viewer {
		t.Errorf("after a restart: %+v %v", s, ok)
	}
	for _, bad := range []string{
		"", ".", "1.viewer", token + "x", token[:len(token)-2], strings.Replace(token, "viewer", "operator", 1), strings.Replace(token, "1.", "2.", 1),
		strings.Repeat("x", 1000) + token,
	} {
		if _, ok := l.session(bad); ok {
			t.Errorf("%q is a token", bad)
		}
	}
	clock = clock.Add(tokenTime)
	if _, ok := l.session(token); ok {
		t.Error("a token is good for ever")
	}
	token, waiting := enter(l.link(operator)), l.link(operator)
	if err := l.revoke(); err != nil {
		t.Fatal(err)
	}
	if _, ok := l.session(token); ok {
		t.Error("a token survives a new key")
	}
	if _, _, ok := l.enter(waiting); ok {
		t.Error("a link survives a new key")
	}
	token = enter(l.link(viewer))
	l = reopen()
	if _, ok := l.session(token); !ok {
		t.Error("the new key is not kept")
	}
	if err := os.WriteFile(path, []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l = reopen(); len(l.key) != keyBytes {
		t.Error("a damaged key is used")
	}
	for range 3 * maxLinks {
		l.link(viewer)
	}
	if len(l.links) > maxLinks {
		t.Errorf("%d links are kept", len(l.links))
	}
}
