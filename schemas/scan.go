package schemas

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// The scalars: strings, numbers and words.

// text steps over the string at pos and reports whether it has escapes.
func (s *scanner) text() (escaped bool, e *Error) {
	i := s.pos + 1
	for {
		i += ordinary(s.src[i:])
		if i == len(s.src) {
			s.pos = i
			return false, s.fault(`ends within a string, its closing '"' is missing`)
		}
		s.pos = i
		switch c := s.src[i]; {
		case c == '"':
			s.pos++
			return escaped, nil
		case c == '\\':
			escaped = true
			if e := s.escape(); e != nil {
				return true, e
			}
			i = s.pos
		case c < ' ':
			return false, s.fault(fmt.Sprintf("a control character in a string, write \\u%04x", c))
		default:
			_, n := utf8.DecodeRune(s.src[i:])
			if n == 1 {
				return false, s.fault(fmt.Sprintf("0x%02X is no UTF-8 here, encode strings as UTF-8", c))
			}
			i += n
		}
	}
}

// ordinary counts the bytes up to the first that ends a string or is more than itself: a quote, a
// backslash, a control character, or a part of a character beyond ASCII. It looks at eight at once:
// the highest bit of each byte of found is set where one of these is, and perhaps above.
func ordinary(b []byte) int {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	n := 0
	for ; n+8 <= len(b); n += 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		quote, backslash := x^(ones*'"'), x^(ones*'\\')
		found := (x | (x - ones*' ') | (quote - ones) | (backslash - ones)) & highs
		if found != 0 {
			return n + bits.TrailingZeros64(found)/8
		}
	}
	for n < len(b) && b[n] >= ' ' && b[n] < utf8.RuneSelf && b[n] != '"' && b[n] != '\\' {
		n++
	}
	return n
}

// escape steps over the escape sequence at pos.
func (s *scanner) escape() *Error {
	rest := s.src[s.pos:]
	if len(rest) < 2 {
		s.pos = len(s.src)
		return s.fault(`ends within a string, its closing '"' is missing`)
	}
	switch rest[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos += 2
		return nil
	case 'u':
	default:
		return s.fault(`no such escape, use one of \" \\ \/ \b \f \n \r \t \uXXXX`)
	}
	unit, ok := hex4(rest[2:])
	switch {
	case !ok:
		return s.fault(`four hex digits must follow \u`)
	case !utf16.IsSurrogate(unit):
		s.pos += 6
		return nil
	}
	if len(rest) >= 12 && rest[6] == '\\' && rest[7] == 'u' {
		if low, ok := hex4(rest[8:]); ok && utf16.DecodeRune(unit, low) != utf8.RuneError {
			s.pos += 12
			return nil
		}
	}
	return s.fault(fmt.Sprintf("%s is half of a surrogate pair, write both halves or the character itself", rest[:6]))
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

// number steps over the number at pos, -?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?, and reports whether it
// has a point or an exponent.
func (s *scanner) number() (odd bool, e *Error) {
	start := s.pos
	if s.at('-') {
		s.pos++
	}
	whole := s.pos
	digits := s.digits()
	switch {
	case digits == 0:
		return false, s.unexpected("a digit")
	case digits > 1 && s.src[whole] == '0':
		s.pos = whole
		return false, s.fault("a number begins with a needless 0, remove it")
	}
	if s.at('.') {
		odd = true
		s.pos++
		fraction := s.digits()
		if fraction == 0 {
			return odd, s.unexpected("a digit")
		}
		digits += fraction
	}
	if digits > maxDigits {
		s.pos = start
		return odd, s.fault(fmt.Sprintf("a number with %d digits, at most %d are allowed", digits, maxDigits))
	}
	if !s.at('e') && !s.at('E') {
		return odd, nil
	}
	s.pos++
	if s.at('+') || s.at('-') {
		s.pos++
	}
	from := s.pos
	if s.digits() == 0 {
		return true, s.unexpected("a digit")
	}
	if n, err := strconv.Atoi(string(s.src[from:s.pos])); err != nil || n > maxExponent {
		s.pos = start
		return true, s.fault(fmt.Sprintf("a number with an exponent beyond ±%d, use a smaller one", maxExponent))
	}
	return true, nil
}

// digits steps over digits and counts them.
func (s *scanner) digits() int {
	i := s.pos
	for i < len(s.src) && s.src[i]-'0' <= 9 {
		i++
	}
	n := i - s.pos
	s.pos = i
	return n
}

// word reads one of true, false, null.
func (s *scanner) word(w string, k jsonType) *Error {
	start := s.pos
	for i := range len(w) {
		if !s.at(w[i]) {
			return s.unexpected(fmt.Sprintf("%q of %q", w[i], w))
		}
		s.pos++
	}
	s.put(k, start, s.pos, false)
	return nil
}
