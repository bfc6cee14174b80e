package schemas

import "unicode/utf8"

// matcher is a regular expression that takes bytes.
type matcher interface{ Match(b []byte) bool }

// text is what a schema asks of a string.
type text struct {
	length span // in characters
	expr   matcher
}

func (x *text) valid(s []byte) bool {
	// Only where bytes and characters may differ in what they say are characters counted.
	if len(s) < x.length.least {
		return false
	}
	if (x.length.least > 0 || len(s) > x.length.most) && !x.length.holds(utf8.RuneCount(s)) {
		return false
	}
	return x.expr == nil || x.expr.Match(s)
}

// number is what a schema asks of a number.
type number struct {
	least, most  *bound
	above, below *bound
	multiple     *bound
}

func (n *number) valid(text []byte) bool {
	return (n.least == nil || n.least.compare(text) >= 0) &&
		(n.most == nil || n.most.compare(text) <= 0) &&
		(n.above == nil || n.above.compare(text) > 0) &&
		(n.below == nil || n.below.compare(text) < 0) &&
		(n.multiple == nil || n.multiple.divides(text))
}
