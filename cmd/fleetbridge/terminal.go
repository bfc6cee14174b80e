package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable keeps what a cloud or a program wrote from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// shown is a payload as it goes to w: to a terminal with every character that could steer it escaped as in
// a string of JSON or Go, to anything else as it is.
func shown(w io.Writer, payload []byte) []byte {
	if !terminal(w) {
		return payload
	}
	out := make([]byte, 0, len(payload))
	for rest := payload; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && n == 1:
			out = append(out, '\\', 'x', hex[rest[0]>>4], hex[rest[0]&15])
		case unicode.IsPrint(r), r == '\n', r == '\t':
			out = append(out, rest[:n]...)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			out = append(out, quoted[1:len(quoted)-1]...)
		}
		rest = rest[n:]
	}
	return out
}

const hex = "0123456789abcdef"

// terminal reports whether w is a file that is a character device.
func terminal(w io.Writer) bool {
	f, ok := w.(interface{ Stat() (os.FileInfo, error) })
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
