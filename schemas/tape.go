package schemas

import (
	"bytes"
	"encoding/json"
)

// tape is a payload cut into its values, in the order of the text: a container, then what is in it,
// then what follows. A member is two tokens, its name and its value. It is good until the next scan.
type tape struct {
	work   // what nodes may still do
	src    []byte
	tokens []token
	plain  []byte // what the strings with escapes mean, one after the other
	nulls  bool   // there is a null somewhere
	unsure bool   // a node could not tell, and its answer is worth nothing
}

// token is a value or a name.
type token struct {
	start, end uint32 // the text, src[start:end]; of a string its inside, plain[start:end] if odd
	next       uint32 // index of the token behind this one and all that is in it
	is         jsonType
	odd        bool // a string with escapes; a number with a point or an exponent
}

// jsonType is the type of a value, or a set of types.
type jsonType uint8

const (
	typeNull jsonType = 1 << iota
	typeBoolean
	typeNumber
	typeString
	typeArray
	typeObject

	typeAny = typeNull | typeBoolean | typeNumber | typeString | typeArray | typeObject
)

// textAt is what a string or a name means, a number as it was written.
func (t *tape) textAt(i uint32) []byte {
	k := &t.tokens[i]
	if k.odd && k.is == typeString {
		return t.plain[k.start:k.end]
	}
	return t.src[k.start:k.end]
}

// rawAt is a value as JSON.
func (t *tape) rawAt(i uint32) []byte {
	if i == 0 {
		return t.src
	}
	if t.tokens[i].is == typeString {
		quoted, _ := json.Marshal(string(t.textAt(i))) // no string fails
		return quoted
	}
	return t.textAt(i)
}

// member finds an object's member: the index of its value, 0 if there is none.
func (t *tape) member(object uint32, name string) uint32 {
	if t.tokens[object].is != typeObject {
		return 0
	}
	for i := object + 1; i < t.tokens[object].next; i = t.tokens[i+1].next {
		if string(t.textAt(i)) == name {
			return i + 1
		}
	}
	return 0
}

// integer reports whether a number that has a point or an exponent is an integer.
func (t *tape) integer(i uint32) bool {
	text := t.textAt(i)
	if len(text) > maxSize {
		t.spend(vastSteps)
	}
	return isInteger(text)
}

// memberPaid is member at the tape's expense: large objects are read from one end to the other.
func (t *tape) memberPaid(object uint32, name string) uint32 {
	t.spend(1 + int(t.tokens[object].next-object)/8)
	return t.member(object, name)
}

// equal compares two values as JSON Schema does: 1 is 1.0, and the order of members is nothing.
func (t *tape) equal(i uint32, other *tape, j uint32) bool {
	if t.spend(1); t.over() {
		return false
	}
	a, b := &t.tokens[i], &other.tokens[j]
	if a.is != b.is {
		return false
	}
	switch a.is {
	case typeNull:
		return true
	case typeBoolean:
		return t.src[a.start] == other.src[b.start]
	case typeNumber:
		if len(other.textAt(j)) > maxSize {
			t.spend(vastSteps)
		}
		return sameNumber(t.textAt(i), other.textAt(j))
	case typeString:
		return bytes.Equal(t.textAt(i), other.textAt(j))
	case typeArray:
		return t.equalItems(i, other, j)
	}
	return t.equalMembers(i, other, j)
}

func (t *tape) equalItems(i uint32, other *tape, j uint32) bool {
	endI, endJ := t.tokens[i].next, other.tokens[j].next
	i, j = i+1, j+1
	for i < endI && j < endJ {
		if !t.equal(i, other, j) {
			return false
		}
		i, j = t.tokens[i].next, other.tokens[j].next
	}
	return i == endI && j == endJ
}

// manyMembers is from how many members on looking each up among all takes too long.
const manyMembers = 64

func (t *tape) equalMembers(i uint32, other *tape, j uint32) bool {
	members := 0
	for at := i + 1; at < t.tokens[i].next; at = t.tokens[at+1].next {
		t.spend(1 + int(other.tokens[j].next-j)/8)
		twin := other.member(j, string(t.textAt(at)))
		if twin == 0 || !t.equal(at+1, other, twin) {
			return false
		}
		if members++; members == manyMembers {
			t.unsure = true
			return false
		}
	}
	for at := j + 1; at < other.tokens[j].next; at = other.tokens[at+1].next {
		members--
	}
	return members == 0
}
