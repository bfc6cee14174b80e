package schemas

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// scanner reads a payload from its first byte to its last and leaves it on the tape. It may be used
// for one payload after the other, and keeps its memory.
type scanner struct {
	tape
	pos      int
	maxDepth int
	open     []frame // the containers that pos is in, outermost first
	names    nameTable
}

// frame is an open container.
type frame struct {
	token  uint32 // the container
	name   uint32 // an object's last name, 0 before it is read
	index  int    // of an array's item
	names  int    // how many names the object has so far
	sketch uint64 // a bit for each of them; see remember
	object bool
}

func (s *scanner) reset(payload []byte, maxDepth int) {
	s.tape = tape{src: payload, tokens: s.tokens[:0], plain: s.plain[:0]}
	s.work = newWork(baseSteps + stepsPerByte*len(payload))
	s.pos, s.maxDepth, s.open = 0, maxDepth, s.open[:0]
	s.names.empty = true
}

func (s *scanner) document() *Error {
	if bytes.HasPrefix(s.src, []byte("\xEF\xBB\xBF")) {
		return whole("begins with a byte order mark, remove it")
	}
	s.space()
	if s.pos == len(s.src) {
		return whole("is empty, send a JSON object")
	}
	for {
		if opened, e := s.value(); e != nil {
			return e
		} else if opened {
			continue
		}
		if done, e := s.afterValue(); e != nil || done {
			return e
		}
	}
}

// value reads a scalar or an empty container; or it opens a container and stops where the first
// value in it must be.
func (s *scanner) value() (opened bool, e *Error) {
	s.space()
	if s.pos == len(s.src) {
		return false, s.fault("ends where a value must follow")
	}
	switch c := s.src[s.pos]; {
	case c == '"':
		start := s.pos + 1
		escaped, e := s.text()
		if e == nil {
			s.putText(start, s.pos-1, escaped)
		}
		return false, e
	case c == '-' || c >= '0' && c <= '9':
		start := s.pos
		odd, e := s.number()
		s.put(typeNumber, start, s.pos, odd)
		return false, e
	case c == '{':
		if e := s.enter(typeObject); e != nil {
			return false, e
		}
		if s.skip('}') {
			s.leave()
			return false, nil
		}
		return true, s.name()
	case c == '[':
		if e := s.enter(typeArray); e != nil {
			return false, e
		}
		if s.skip(']') {
			s.leave()
			return false, nil
		}
		return true, nil
	case c == 't':
		return false, s.word("true", typeBoolean)
	case c == 'f':
		return false, s.word("false", typeBoolean)
	case c == 'n':
		s.nulls = true
		return false, s.word("null", typeNull)
	}
	return false, s.unexpected("a value")
}

// afterValue closes what ends here and stops at the next value. done: the payload is over.
func (s *scanner) afterValue() (done bool, e *Error) {
	for len(s.open) > 0 {
		top := s.top()
		end, expected := byte(']'), `"," or "]"`
		if top.object {
			end, expected = '}', `"," or "}"`
		}
		s.space()
		switch {
		case s.at(end):
			s.pos++
			s.leave()
		case s.at(','):
			s.pos++
			if top.object {
				s.space()
				return false, s.name()
			}
			top.index++
			return false, nil
		default:
			return false, s.unexpected(expected)
		}
	}
	s.space()
	if s.pos < len(s.src) {
		return false, s.unexpected("the end")
	}
	return true, nil
}

// put adds a token in which there are no others. It writes the fields where they belong: a token that
// is put together elsewhere and then copied takes a good part of the scan.
func (s *scanner) put(is jsonType, start, end int, odd bool) {
	n := len(s.tokens)
	if n == cap(s.tokens) {
		s.tokens = slices.Grow(s.tokens, n+16)
	}
	s.tokens = s.tokens[:n+1]
	t := &s.tokens[n]
	t.start, t.end, t.next, t.is, t.odd = uint32(start), uint32(end), uint32(n)+1, is, odd
}

// putText adds a string: src[start:end] is its inside.
func (s *scanner) putText(start, end int, escaped bool) {
	if escaped {
		inside := s.src[start:end]
		start = len(s.plain)
		s.plain = unescape(s.plain, inside)
		end = len(s.plain)
	}
	s.put(typeString, start, end, escaped)
}

// enter enters the container whose bracket is at pos.
func (s *scanner) enter(k jsonType) *Error {
	if len(s.open) == s.maxDepth {
		e := s.fault(fmt.Sprintf("is nested deeper than %d levels, flatten it", s.maxDepth))
		e.Code = CodeTooLarge
		return e
	}
	s.open = append(s.open, frame{token: uint32(len(s.tokens)), object: k == typeObject})
	s.put(k, s.pos, 0, false)
	s.pos++
	return nil
}

// leave leaves the innermost container, whose bracket was just read.
func (s *scanner) leave() {
	t := &s.tokens[s.top().token]
	t.end, t.next = uint32(s.pos), uint32(len(s.tokens))
	s.open = s.open[:len(s.open)-1]
}

func (s *scanner) top() *frame { return &s.open[len(s.open)-1] }

// name reads a member's name and the colon after it, and refuses a name that the object has already.
func (s *scanner) name() *Error {
	top, start := s.top(), s.pos
	top.name = 0
	if !s.at('"') {
		return s.unexpected("a member's name in double quotes")
	}
	escaped, e := s.text()
	if e != nil {
		return e
	}
	top.name = uint32(len(s.tokens))
	s.putText(start+1, s.pos-1, escaped)
	if !s.remember(top) {
		s.pos = start
		return s.fault("is there twice, remove one")
	}
	if !s.skip(':') {
		return s.unexpected(`":"`)
	}
	return nil
}

// skip steps over space and the byte, if it is next.
func (s *scanner) skip(c byte) bool {
	s.space()
	if s.at(c) {
		s.pos++
		return true
	}
	return false
}

func (s *scanner) at(c byte) bool { return s.pos < len(s.src) && s.src[s.pos] == c }

func (s *scanner) space() {
	for s.pos < len(s.src) && s.src[s.pos] <= ' ' {
		switch s.src[s.pos] {
		case ' ', '\n', '\t', '\r':
			s.pos++
		default:
			return
		}
	}
}

// whole refuses a payload for no byte in particular.
func whole(message string) *Error {
	return &Error{Code: CodeJSON, Details: []Detail{{Message: message}}}
}

// fault refuses the payload at pos.
func (s *scanner) fault(message string) *Error {
	var path []string
	for _, f := range s.open {
		switch {
		case !f.object:
			path = append(path, strconv.Itoa(f.index))
		case f.name != 0:
			path = append(path, string(s.textAt(f.name)))
		}
	}
	return &Error{Code: CodeJSON, Offset: s.pos, Details: []Detail{{
		pointer(path...), fmt.Sprintf("byte %d: %s", s.pos, message)}}}
}

// unexpected refuses the byte at pos, or the end of the payload there.
func (s *scanner) unexpected(expected string) *Error {
	if s.pos >= len(s.src) {
		return s.fault("expected " + expected + ", found the end")
	}
	if r, n := utf8.DecodeRune(s.src[s.pos:]); r != utf8.RuneError || n > 1 {
		return s.fault(fmt.Sprintf("expected %s, found %q", expected, r))
	}
	return s.fault(fmt.Sprintf("expected %s, found the byte 0x%02X", expected, s.src[s.pos]))
}
