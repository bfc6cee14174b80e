package schemas

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// The scalars of the guard: strings, numbers and words.

// text reads the string at pos and reports whether it has escapes.
func (g *guard) text() (escaped bool, e *Error) {
	src, i := g.src, g.pos+1
	for i < len(src) {
		c := src[i]
		switch {
		case c == '"':
			g.pos = i + 1
			return escaped, nil
		case c == '\\':
			escaped, g.pos = true, i
			if e := g.escape(); e != nil {
				return true, e
			}
			i = g.pos
		case c < ' ':
			g.pos = i
			return false, g.fault(fmt.Sprintf("a control character in a string, write \\u%04x", c))
		case c < utf8.RuneSelf:
			i++
		default:
			_, n := utf8.DecodeRune(src[i:])
			if n == 1 {
				g.pos = i
				return false, g.fault(fmt.Sprintf("0x%02X is no UTF-8 here, encode strings as UTF-8", c))
			}
			i += n
		}
	}
	g.pos = len(src)
	return false, g.fault(`ends within a string, its closing '"' is missing`)
}

// escape steps over the escape sequence at pos.
func (g *guard) escape() *Error {
	rest := g.src[g.pos:]
	if len(rest) < 2 {
		g.pos = len(g.src)
		return g.fault(`ends within a string, its closing '"' is missing`)
	}
	switch rest[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		g.pos += 2
		return nil
	case 'u':
	default:
		return g.fault(`no such escape, use one of \" \\ \/ \b \f \n \r \t \uXXXX`)
	}
	unit, ok := hex4(rest[2:])
	switch {
	case !ok:
		return g.fault(`four hex digits must follow \u`)
	case !utf16.IsSurrogate(unit):
		g.pos += 6
		return nil
	}
	if len(rest) >= 12 && rest[6] == '\\' && rest[7] == 'u' {
		if low, ok := hex4(rest[8:]); ok && utf16.DecodeRune(unit, low) != utf8.RuneError {
			g.pos += 12
			return nil
		}
	}
	return g.fault(fmt.Sprintf("%s is half of a surrogate pair, write both halves or the character itself", rest[:6]))
}

// hex4 reads four hex digits.
func hex4(s []byte) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for _, c := range s[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape appends the meaning of a string's inside, which text has accepted.
func unescape(to, s []byte) []byte {
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			to = append(to, s[i])
			i++
			continue
		}
		switch c := s[i+1]; c {
		case 'b':
			to = append(to, '\b')
		case 'f':
			to = append(to, '\f')
		case 'n':
			to = append(to, '\n')
		case 'r':
			to = append(to, '\r')
		case 't':
			to = append(to, '\t')
		case 'u':
			r, _ := hex4(s[i+2:])
			if utf16.IsSurrogate(r) {
				low, _ := hex4(s[i+8:])
				r = utf16.DecodeRune(r, low)
				i += 6
			}
			to = utf8.AppendRune(to, r)
			i += 4
		default:
			to = append(to, c)
		}
		i += 2
	}
	return to
}

// number reads the number at pos: -?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?
func (g *guard) number() *Error {
	start := g.pos
	if g.src[g.pos] == '-' {
		g.pos++
	}
	whole := g.pos
	digits := g.digits()
	switch {
	case digits == 0:
		return g.unexpected("a digit")
	case digits > 1 && g.src[whole] == '0':
		g.pos = whole
		return g.fault("a number begins with a needless 0, remove it")
	}
	if g.at('.') {
		g.pos++
		fraction := g.digits()
		if fraction == 0 {
			return g.unexpected("a digit")
		}
		digits += fraction
	}
	if digits > maxDigits {
		g.pos = start
		return g.fault(fmt.Sprintf("a number with %d digits, at most %d are allowed", digits, maxDigits))
	}
	if !g.at('e') && !g.at('E') {
		return nil
	}
	g.pos++
	if g.at('+') || g.at('-') {
		g.pos++
	}
	from := g.pos
	if g.digits() == 0 {
		return g.unexpected("a digit")
	}
	if n, err := strconv.Atoi(string(g.src[from:g.pos])); err != nil || n > maxExponent {
		g.pos = start
		return g.fault(fmt.Sprintf("a number with an exponent beyond ±%d, use a smaller one", maxExponent))
	}
	return nil
}

func (g *guard) at(c byte) bool { return g.pos < len(g.src) && g.src[g.pos] == c }

// digits steps over digits and counts them.
func (g *guard) digits() int {
	from := g.pos
	for g.pos < len(g.src) && g.src[g.pos]-'0' <= 9 {
		g.pos++
	}
	return g.pos - from
}

// word steps over one of true, false, null.
func (g *guard) word(w string) *Error {
	for i := range len(w) {
		if !g.at(w[i]) {
			return g.unexpected(fmt.Sprintf("%q of %q", w[i], w))
		}
		g.pos++
	}
	return nil
}
