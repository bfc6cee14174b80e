package mapping

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Longest names, in bytes of UTF-8.
const (
	MaxThingBytes = 255 // the Fleets database column
	MaxIDBytes    = 256 // event types, job ids, execution ids
)

// Thing is the name of a Thing, checked by ParseThing.
type Thing string

// ParseThing checks a Thing name: 1 to 255 bytes of valid UTF-8 without "/", "+", "#", NUL or
// control characters. Names are compared byte by byte: nothing is normalised or folded.
func ParseThing(name string) (Thing, error) {
	if err := checkName(name, MaxThingBytes); err != nil {
		return "", fmt.Errorf("thing name %q: %w", name, err)
	}
	return Thing(name), nil
}

// CheckID checks an event type, job id or execution id by the rule of Thing names, with at most
// 256 bytes.
func CheckID(id string) error {
	if err := checkName(id, MaxIDBytes); err != nil {
		return fmt.Errorf("id %q: %w", id, err)
	}
	return nil
}

func checkName(s string, limit int) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > limit:
		return fmt.Errorf("has %d bytes, at most %d are allowed", len(s), limit)
	case !utf8.ValidString(s):
		return errors.New("is not valid UTF-8")
	}
	for _, r := range s {
		switch {
		case r == '/' || r == '+' || r == '#':
			return fmt.Errorf("contains %q, which MQTT topics reserve", r)
		case unicode.IsControl(r):
			return fmt.Errorf("contains the control character %U", r)
		}
	}
	return nil
}

const upperHex = "0123456789ABCDEF"

// plain reports whether a byte stands for itself in a token.
func plain(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// Token spells a name as one NATS subject token, which is also its key in every KV bucket: the
// bytes A-Z a-z 0-9 _ - stand for themselves, every other byte is written =XX.
func Token(name string) string {
	special := 0
	for i := range len(name) {
		if !plain(name[i]) {
			special++
		}
	}
	if special == 0 {
		return name
	}
	var b strings.Builder
	b.Grow(len(name) + 2*special)
	for i := range len(name) {
		if c := name[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'=', upperHex[c>>4], upperHex[c&15]})
		}
	}
	return b.String()
}

// Untoken is the inverse of Token. The spelling is canonical: a malformed escape, lower-case hex
// digits and the escape of a byte that needs none are errors.
func Untoken(token string) (string, error) {
	if token == "" {
		return "", errors.New("token is empty")
	}
	escaped := false
	for i := range len(token) {
		if !plain(token[i]) {
			escaped = true
			break
		}
	}
	if !escaped {
		return token, nil
	}
	var b strings.Builder
	b.Grow(len(token))
	for i := 0; i < len(token); i++ {
		c := token[i]
		switch {
		case plain(c):
			b.WriteByte(c)
		case c != '=':
			return "", fmt.Errorf("token %q: byte %q must be written =%02X", token, c, c)
		case i+2 >= len(token):
			return "", fmt.Errorf("token %q: the escape %q is cut short, write =XX", token, token[i:])
		default:
			hi, lo := strings.IndexByte(upperHex, token[i+1]), strings.IndexByte(upperHex, token[i+2])
			if hi < 0 || lo < 0 {
				return "", fmt.Errorf("token %q: %q is no escape, write = and two upper-case hex digits", token, token[i:i+3])
			}
			d := byte(hi<<4 | lo)
			if plain(d) {
				return "", fmt.Errorf("token %q: %q is needless, write %q", token, token[i:i+3], string(rune(d)))
			}
			b.WriteByte(d)
			i += 2
		}
	}
	return b.String(), nil
}
