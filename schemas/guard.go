package schemas

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math"
	"strconv"
	"unicode/utf8"
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
//
// A good payload of ordinary size costs no allocation.
func Guard(payload []byte, limits Limits) error {
	limits = limits.orDefault()
	if len(payload) > limits.MaxBytes {
		return &Error{Code: CodeTooLarge, Offset: limits.MaxBytes, Details: []Detail{{Message: fmt.Sprintf(
			"has %d bytes, at most %d are allowed", len(payload), limits.MaxBytes)}}}
	}
	g := guard{src: payload, maxDepth: limits.MaxDepth, seed: maphash.MakeSeed()}
	if e := g.document(); e != nil {
		return e
	}
	return nil
}

// guard is a scanner over one payload. It keeps one frame for each open container, and all keys
// met so far in a hash table, so that no object costs quadratic time. What an ordinary payload needs
// is in arrays, so that a guard fits on the stack.
type guard struct {
	src      []byte
	pos      int
	maxDepth int
	depth    int
	seed     maphash.Seed // fresh each time: nobody can prepare colliding keys
	objects  int32        // objects met so far
	known    int          // keys met so far
	names    []byte       // unescaped spellings of the keys that had escapes

	shallow [24]frame
	deep    []frame // those after shallow
	few     [48]key
	many    []key       // those after few
	small   [128]uint32 // open addressing; 1 + index of the key, 0 is free
	large   []uint32    // takes over from small
}

// frame is an open container.
type frame struct {
	object int32 // serial number, 0 for an array
	at     int32 // index of the item, or of the key in keys; -1 before the first
}

// key is a member's name: src[start:end], or names[start:end] when it was escaped.
type key struct {
	hash       uint64
	object     int32
	start, end uint32
	escaped    bool
}

func (g *guard) document() *Error {
	if bytes.HasPrefix(g.src, []byte("\xEF\xBB\xBF")) {
		return whole("begins with a byte order mark, remove it")
	}
	g.space()
	if g.pos == len(g.src) {
		return whole("is empty, send a JSON object")
	}
	for {
		if opened, e := g.value(); e != nil {
			return e
		} else if opened {
			continue
		}
		if done, e := g.afterValue(); e != nil || done {
			return e
		}
	}
}

// value reads a scalar or an empty container; or it opens a container and stops where the first
// value in it must be.
func (g *guard) value() (opened bool, e *Error) {
	g.space()
	if g.pos == len(g.src) {
		return false, g.fault("ends where a value must follow")
	}
	switch c := g.src[g.pos]; {
	case c == '{':
		g.objects++
		if e := g.open(frame{object: g.objects, at: -1}); e != nil {
			return false, e
		}
		if g.skip('}') {
			g.depth--
			return false, nil
		}
		return true, g.key()
	case c == '[':
		if e := g.open(frame{at: -1}); e != nil {
			return false, e
		}
		if g.skip(']') {
			g.depth--
			return false, nil
		}
		g.top().at = 0
		return true, nil
	case c == '"':
		_, e := g.text()
		return false, e
	case c == '-' || c >= '0' && c <= '9':
		return false, g.number()
	case c == 't':
		return false, g.word("true")
	case c == 'f':
		return false, g.word("false")
	case c == 'n':
		return false, g.word("null")
	}
	return false, g.unexpected("a value")
}

// afterValue closes what ends here and stops at the next value. done: the payload is over.
func (g *guard) afterValue() (done bool, e *Error) {
	for g.depth > 0 {
		top := g.top()
		end, expected := byte('}'), `"," or "}"`
		if top.object == 0 {
			end, expected = ']', `"," or "]"`
		}
		g.space()
		switch {
		case g.pos < len(g.src) && g.src[g.pos] == end:
			g.pos++
			g.depth--
		case g.pos < len(g.src) && g.src[g.pos] == ',':
			g.pos++
			if top.object != 0 {
				g.space()
				return false, g.key()
			}
			top.at++
			return false, nil
		default:
			return false, g.unexpected(expected)
		}
	}
	g.space()
	if g.pos < len(g.src) {
		return false, g.unexpected("the end")
	}
	return true, nil
}

// open enters the container whose bracket is at pos.
func (g *guard) open(f frame) *Error {
	if g.depth == g.maxDepth {
		e := g.fault(fmt.Sprintf("is nested deeper than %d levels, flatten it", g.maxDepth))
		e.Code = CodeTooLarge
		return e
	}
	if g.depth < len(g.shallow) {
		g.shallow[g.depth] = f
	} else {
		g.deep = append(g.deep[:g.depth-len(g.shallow)], f)
	}
	g.depth++
	g.pos++
	return nil
}

func (g *guard) top() *frame { return g.frame(g.depth - 1) }

func (g *guard) frame(i int) *frame {
	if i < len(g.shallow) {
		return &g.shallow[i]
	}
	return &g.deep[i-len(g.shallow)]
}

// skip steps over space and the byte, if it is next.
func (g *guard) skip(c byte) bool {
	g.space()
	if g.pos < len(g.src) && g.src[g.pos] == c {
		g.pos++
		return true
	}
	return false
}

func (g *guard) space() {
	for g.pos < len(g.src) {
		switch g.src[g.pos] {
		case ' ', '\n', '\t', '\r':
			g.pos++
		default:
			return
		}
	}
}

// key reads a member's name and the colon after it, and refuses a name that the object has already.
func (g *guard) key() *Error {
	g.top().at = -1
	start := g.pos
	if start == len(g.src) || g.src[start] != '"' {
		return g.unexpected("a member's name in double quotes")
	}
	escaped, e := g.text()
	if e != nil {
		return e
	}
	top := g.top()
	k := key{object: top.object, start: uint32(start + 1), end: uint32(g.pos - 1)}
	if escaped {
		k.escaped, k.start = true, uint32(len(g.names))
		g.names = unescape(g.names, g.src[start+1:g.pos-1])
		k.end = uint32(len(g.names))
	}
	k.hash = maphash.Bytes(g.seed, g.name(k)) ^ uint64(k.object)*0x9E3779B97F4A7C15
	duplicate := !g.remember(k)
	top.at = int32(g.known - 1)
	if duplicate {
		g.pos = start
		return g.fault("is there twice, remove one")
	}
	if !g.skip(':') {
		return g.unexpected(`":"`)
	}
	return nil
}

// remember adds a key and reports whether its object did not have it yet.
func (g *guard) remember(k key) bool {
	if g.known < len(g.few) {
		g.few[g.known] = k
	} else {
		g.many = append(g.many, k)
	}
	g.known++
	if 2*g.known > len(g.table()) {
		g.grow()
	}
	table := g.table()
	mask := uint64(len(table) - 1)
	i := k.hash & mask
	for ; table[i] != 0; i = (i + 1) & mask {
		other := g.nth(int(table[i] - 1))
		if other.hash == k.hash && other.object == k.object && bytes.Equal(g.name(*other), g.name(k)) {
			return false
		}
	}
	table[i] = uint32(g.known)
	return true
}

// grow enlarges the table for the keys before the last, which its caller enters.
func (g *guard) grow() {
	table := make([]uint32, 4*len(g.table()))
	mask := uint64(len(table) - 1)
	for n := range g.known - 1 {
		i := g.nth(n).hash & mask
		for table[i] != 0 {
			i = (i + 1) & mask
		}
		table[i] = uint32(n + 1)
	}
	g.large = table
}

func (g *guard) table() []uint32 {
	if g.large != nil {
		return g.large
	}
	return g.small[:]
}

func (g *guard) nth(i int) *key {
	if i < len(g.few) {
		return &g.few[i]
	}
	return &g.many[i-len(g.few)]
}

func (g *guard) name(k key) []byte {
	if k.escaped {
		return g.names[k.start:k.end]
	}
	return g.src[k.start:k.end]
}

// whole refuses a payload for no byte in particular.
func whole(message string) *Error {
	return &Error{Code: CodeJSON, Details: []Detail{{Message: message}}}
}

// fault refuses the payload at pos.
func (g *guard) fault(message string) *Error {
	var path []string
	for i := range g.depth {
		f := g.frame(i)
		switch {
		case f.at < 0:
		case f.object == 0:
			path = append(path, strconv.Itoa(int(f.at)))
		default:
			// A name may be known before its bytes are known to be good.
			path = append(path, string(bytes.ToValidUTF8(g.name(*g.nth(int(f.at))), []byte("\uFFFD"))))
		}
	}
	return &Error{Code: CodeJSON, Offset: g.pos, Details: []Detail{{
		pointer(path...), fmt.Sprintf("byte %d: %s", g.pos, message)}}}
}

// unexpected refuses the byte at pos, or the end of the payload there.
func (g *guard) unexpected(expected string) *Error {
	if g.pos >= len(g.src) {
		return g.fault("expected " + expected + ", found the end")
	}
	if r, n := utf8.DecodeRune(g.src[g.pos:]); r != utf8.RuneError || n > 1 {
		return g.fault(fmt.Sprintf("expected %s, found %q", expected, r))
	}
	return g.fault(fmt.Sprintf("expected %s, found the byte 0x%02X", expected, g.src[g.pos]))
}
