package schemas

import (
	"fmt"
	"math"
)

// Limits bound the size of a payload. A field that is 0 means its default.
type Limits struct {
	MaxBytes int
	MaxDepth int // containers within containers; the outermost object is 1 deep
}

const (
	DefaultMaxBytes = 128 << 10
	DefaultMaxDepth = 64
)

// Numbers are JSON whatever their size, but programs that read them are not made for it: beyond
// these, a reader gets infinity or spends seconds on a short payload.
const (
	maxDigits   = 400 // before and after the point together
	maxExponent = 400 // either way; the largest double is about 1e308
)

func (l Limits) orDefault() Limits {
	if l.MaxBytes <= 0 {
		l.MaxBytes = DefaultMaxBytes
	}
	if l.MaxDepth <= 0 {
		l.MaxDepth = DefaultMaxDepth
	}
	l.MaxBytes = min(l.MaxBytes, math.MaxInt32) // offsets are kept in 32 bits
	return l
}

// Guard reads a payload once and returns nil if every reader will see the same JSON value in it:
// RFC 8259 and nothing else. What encoding/json lets pass and Guard does not: more bytes or deeper
// than the limits (CodeTooLarge); invalid UTF-8, an object with the same key twice (compared after
// unescaping), \u escapes that are half of a surrogate pair, and numbers with more than 400 digits
// or an exponent beyond ±400 (CodeJSON). Any JSON value will do; that a payload is an object is the
// schema's business. The error is an *Error.
func Guard(payload []byte, limits Limits) error { return new(scanner).scan(payload, limits) }

func (l Limits) tooLarge(size int) *Error {
	return &Error{Code: CodeTooLarge, Offset: l.MaxBytes, Details: []Detail{{Message: fmt.Sprintf(
		"has %d bytes, at most %d are allowed", size, l.MaxBytes)}}}
}

// scan guards a payload and puts it on the tape. The error is an *Error; after one the tape is of no
// use.
func (s *scanner) scan(payload []byte, limits Limits) error {
	limits = limits.orDefault()
	if len(payload) > limits.MaxBytes {
		return limits.tooLarge(len(payload))
	}
	s.reset(payload, limits.MaxDepth)
	if e := s.document(); e != nil {
		return e
	}
	return nil
}
