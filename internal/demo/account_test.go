package demo

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"fleetbridge/mapping"
)

func TestShorten(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"id":"0004273b-73db-4884-b932-5db51bb3ebad","a":1}`, `{"id":"0004…","a":1}`},
		{`{"n":1795363190545123456,"t":1795363190545}`, `{"n":1795…,"t":1795363190545}`},
		{"a\nb\tc\x1b[31m", "a b c [31m"},
		{"bad\xff", "bad\uFFFD"},
	} {
		if got := shorten(c.text); got != c.want {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
	if got := cut("äöüß", 3); got != "äö…" {
		t.Errorf("got %q", got)
	}
	if got := cutInside("0123456789", 7); got != "012…789" || utf8.RuneCountInString(got) != 7 {
		t.Errorf("got %q", got)
	}
}

// A row is never wider than the page, and plain but for its colours; what a payload holds can't change
// the terminal.
func TestRow(t *testing.T) {
	r := row{
		up: true, who: "a program with a long name", subject: "fleets.up." + strings.Repeat("x", 300), topic: strings.Repeat("y/", 300),
		what: "report", payload: []byte("{\"a\":\"\x1b[2J" + strings.Repeat("z", 300) + `"}`), wire: []byte(strings.Repeat("é", 300)),
		address: mapping.Address{Thing: Thing, Channel: mapping.ShadowReport}, notes: []note{{"a long label, too", strings.Repeat("n", 300)}},
	}
	var plain, colourful bytes.Buffer
	(&account{out: &plain}).row(&r)
	(&account{out: &colourful, color: true}).row(&r)
	for line := range strings.Lines(plain.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
			t.Errorf("%d wide: %s", n, line)
		}
	}
	if strings.Contains(plain.String(), "\x1b") {
		t.Errorf("escape codes in plain output: %q", &plain)
	}
	if got := regexp.MustCompile(`\x1b\[\d+m`).ReplaceAllString(colourful.String(), ""); got != plain.String() || got == colourful.String() {
		t.Errorf("got %q\nwant %q", got, &plain)
	}
}

// Hints that say the same are counted.
func TestHints(t *testing.T) {
	hint := row{who: "programs", subject: "s", topic: "t", what: "hint", address: mapping.Address{Thing: Thing, Channel: mapping.JobsNotify}}
	var out bytes.Buffer
	(&account{out: &out}).rows([]row{hint, hint, hint})
	if got := out.String(); strings.Count(got, "hint  ") != 1 || !strings.Contains(got, "and 2 more of these hints") {
		t.Errorf("got %s", got)
	}
}
