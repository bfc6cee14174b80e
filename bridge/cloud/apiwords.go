package cloud

import (
	"encoding/base64"
	"slices"
	"strings"
)

// fitError is an error in other words.
type fitError struct {
	text string
	err  error
}

func (e *fitError) Error() string { return e.text }
func (e *fitError) Unwrap() error { return e.err }

// A name of 255 bytes takes 765 in a URL. What to do about an error stands at its end.
const (
	fitHead = 1000 // runes
	fitTail = 200
	// longSecret is how many bytes a spelling has that is no word of ours, or of a document, by chance.
	longSecret = 16
)

// fit makes one line of bounded length of an error's text, without the login. A server may repeat it: some that fail show
// the request.
func (a *API) fit(text string) string {
	runes := []rune(printed(redact(text, a.logins())))
	if len(runes) > fitHead+fitTail {
		return string(runes[:fitHead]) + "…" + string(runes[len(runes)-fitTail:])
	}
	return string(runes)
}

// hide takes the login, and each half of it, out of a stranger's text.
func (a *API) hide(text string) string { return redact(text, append(a.logins(), a.secret, a.key)) }

// redact is a text with the words taken out of it; an empty one is none.
func redact(text string, words []string) string {
	for _, w := range words {
		if w != "" {
			text = strings.ReplaceAll(text, w, "…")
		}
	}
	return text
}

// repeats reports whether a text has the login in it.
func (a *API) repeats(text string) bool {
	return slices.ContainsFunc(a.logins(), func(s string) bool { return strings.Contains(text, s) })
}

// logins are the spellings of the login that are nothing else by chance; none without a login.
func (a *API) logins() (out []string) {
	both := a.key + ":" + a.secret
	for _, s := range []string{base64.StdEncoding.EncodeToString([]byte(both)), both, a.secret} {
		if len(s) >= longSecret {
			out = append(out, s)
		}
	}
	return out
}
