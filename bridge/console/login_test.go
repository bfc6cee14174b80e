package console

import (
	"strings"
	"testing"
	"time"
)

// A link is used once, and within two minutes. A token is good for twelve hours, and for this run alone.
func TestLogins(t *testing.T) {
	clock := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	l := newLogins()
	l.now = func() time.Time { return clock }
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
	if s, ok := l.session(token); !ok || s.role != viewer {
		t.Errorf("%+v %v", s, ok)
	}
	if _, ok := newLogins().session(token); ok {
		t.Error("a token survives a restart: whoever had the port meanwhile may have it")
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
	l.revoke()
	if _, ok := l.session(token); ok {
		t.Error("a token survives a new key")
	}
	if _, _, ok := l.enter(waiting); ok {
		t.Error("a link survives a new key")
	}
	for range 3 * maxLinks {
		l.link(viewer)
	}
	if len(l.links) > maxLinks {
		t.Errorf("%d links are kept", len(l.links))
	}
}
