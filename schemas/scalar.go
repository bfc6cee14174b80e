package schemas

import (
	"bytes"
	"unicode/utf8"
)

// text is what a schema asks of a string.
type text struct {
	length span // in characters
	expr   *expression
}

func (x *text) valid(t *tape, s []byte) bool {
	t.spend(len(s) / 64)
	// Only where bytes and characters may differ in what they say are characters counted.
	if len(s) < x.length.least {
		return false
	}
	if (x.length.least > 0 || len(s) > x.length.most) && !x.length.holds(utf8.RuneCount(s)) {
		return false
	}
	return x.expr == nil || x.expr.match(t, s)
}

// number is what a schema asks of a number.
type number struct {
	least, most  *bound
	above, below *bound
	multiple     *bound
}

func (n *number) valid(t *tape, text []byte) bool {
	if len(text) > maxSize || n.multiple != nil && bytes.ContainsAny(text, "eE") {
		t.spend(vastSteps)
	}
	return (n.least == nil || n.least.compare(text) >= 0) &&
		(n.most == nil || n.most.compare(text) <= 0) &&
		(n.above == nil || n.above.compare(text) > 0) &&
		(n.below == nil || n.below.compare(text) < 0) &&
		(n.multiple == nil || n.multiple.divides(text))
}
