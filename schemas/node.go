package schemas

import "math"

// node is a compiled schema, or a part of one: the keywords as what they ask of a value on a tape.
// Where a keyword is absent there is nil or what asks for nothing. Nodes refer to each other as the
// schema does, in a circle too, but never so that one asks itself about the same value.
type node struct {
	types    jsonType // those that are allowed
	integer  bool     // of numbers, only integers
	constant *tape
	enum     *enum
	object   *object
	array    *array
	text     *text
	number   *number
	forms    *forms
}

// valid reports whether the value at i is what the schema asks for.
func (n *node) valid(t *tape, i uint32) bool {
	if t.spend(1); t.over() {
		return false
	}
	k := &t.tokens[i]
	if n.types&k.is == 0 || n.integer && k.is == typeNumber && k.odd && !t.integer(i) {
		return false
	}
	if n.constant != nil && !t.equal(i, n.constant, 0) || n.enum != nil && !n.enum.has(t, i) {
		return false
	}
	switch k.is {
	case typeObject:
		if n.object != nil && !n.object.valid(t, i) {
			return false
		}
	case typeArray:
		if n.array != nil && !n.array.valid(t, i) {
			return false
		}
	case typeString:
		if n.text != nil && !n.text.valid(t, t.textAt(i)) {
			return false
		}
	case typeNumber:
		if n.number != nil && !n.number.valid(t, t.textAt(i)) {
			return false
		}
	}
	return n.forms == nil || n.forms.valid(t, i)
}

// enum are the values of which one is asked for. Strings and ordinary numbers are found at once,
// however many there are.
type enum struct {
	words   map[string]bool
	numbers map[decimal]bool
	others  []*tape
}

func (e *enum) has(t *tape, i uint32) bool {
	switch t.tokens[i].is {
	case typeString:
		return e.words[string(t.textAt(i))]
	case typeNumber:
		if d, ok := parseDecimal(t.textAt(i)); ok {
			return e.numbers[d]
		}
	}
	for _, v := range e.others {
		if t.equal(i, v, 0) {
			return true
		}
	}
	return false
}

// forms are the keywords that hold other schemas against the same value.
type forms struct {
	all, anyOf, oneOf          []*node // $ref is one of all
	not, test, then, otherwise *node
}

func (f *forms) valid(t *tape, i uint32) bool {
	for _, n := range f.all {
		if !n.valid(t, i) {
			return false
		}
	}
	if f.anyOf != nil && matches(f.anyOf, t, i, 1) == 0 || f.oneOf != nil && matches(f.oneOf, t, i, 2) != 1 {
		return false
	}
	if f.not != nil && f.not.valid(t, i) {
		return false
	}
	if f.test == nil {
		return true
	}
	then := f.then
	if !f.test.valid(t, i) {
		then = f.otherwise
	}
	return then == nil || then.valid(t, i)
}

// matches counts the schemas that the value fits, up to enough.
func matches(nodes []*node, t *tape, i uint32, enough int) int {
	count := 0
	for _, n := range nodes {
		if t.over() {
			break
		}
		if n.valid(t, i) {
			if count++; count == enough {
				break
			}
		}
	}
	return count
}

// span is how many of something there may be.
type span struct{ least, most int }

func newSpan(least, most *int) span {
	s := span{0, math.MaxInt}
	if least != nil {
		s.least = *least
	}
	if most != nil {
		s.most = *most
	}
	return s
}

func (s span) holds(n int) bool { return n >= s.least && n <= s.most }
