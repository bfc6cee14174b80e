package mapping

import (
	"strings"
	"testing"
)

func TestTokenSpellings(t *testing.T) {
	for name, token := range map[string]string{
		"pump-07":         "pump-07",
		"com.acme.pump 7": "com=2Eacme=2Epump=207",
		"a=b":             "a=3Db",
		"größe":           "gr=C3=B6=C3=9Fe",
		"*>":              "=2A=3E",
		"A_z-09":          "A_z-09",
	} {
		if got := Token(name); got != token {
			t.Errorf("Token(%q) = %q, want %q", name, got, token)
		}
		if got, err := Untoken(token); err != nil || got != name {
			t.Errorf("Untoken(%q) = %q, %v, want %q", token, got, err, name)
		}
	}
}

func TestUntokenRefusesWhatIsNotCanonical(t *testing.T) {
	for token, want := range map[string]string{
		"":        "is empty",
		"a.b":     `must be written =2E`,
		"a=2":     "cut short",
		"a=":      "cut short",
		"a=2e":    "upper-case",
		"a=GG":    "upper-case",
		"a=61":    `needless, write "a"`,
		"a=2Db":   `needless, write "-"`,
		"a b":     "=20",
		"größe":   "must be written =C3",
		"a==3D":   "is no escape",
		"a=3D=5F": "needless",
	} {
		if _, err := Untoken(token); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Untoken(%q): %v, want an error with %q", token, err, want)
		}
	}
}

func TestThingNames(t *testing.T) {
	for _, name := range []string{"a", "pump-07", "com.acme:7", "Wärme 7%?", strings.Repeat("x", 255), "jobs", "shadow", "..", "$x"} {
		if _, err := ParseThing(name); err != nil {
			t.Errorf("ParseThing(%q): %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"":                       "is empty",
		"com.acme/7":             "'/'",
		"a+b":                    "'+'",
		"a#":                     "'#'",
		"a\x00b":                 "U+0000",
		"a\nb":                   "U+000A",
		"a\x7f":                  "U+007F",
		"a\u0085b":               "U+0085",
		"a\xff":                  "UTF-8",
		strings.Repeat("x", 256): "256 bytes",
	} {
		if _, err := ParseThing(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseThing(%q): %v, want an error with %q", name, err, want)
		}
	}
	if err := CheckID(strings.Repeat("x", 256)); err != nil {
		t.Error(err)
	}
	if err := CheckID(strings.Repeat("x", 257)); err == nil {
		t.Error("an id of 257 bytes passed")
	}
}

func FuzzToken(f *testing.F) {
	for _, s := range []string{"pump-07", "com=2Eacme", "=", "=20", "a=2e", "ü"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if s != "" {
			if back, err := Untoken(Token(s)); err != nil || back != s {
				t.Fatalf("Untoken(Token(%q)) = %q, %v", s, back, err)
			}
		}
		if name, err := Untoken(s); err == nil && Token(name) != s {
			t.Fatalf("%q and %q both spell %q", s, Token(name), name)
		}
	})
}
