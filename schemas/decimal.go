package schemas

import (
	"bytes"
	"cmp"
	"math/big"
	"math/bits"
)

// decimal is a number as JSON spells it, exactly: ±digits × 10^exp. The last digit is not 0, so that
// there is one spelling for each value; 0 is the zero decimal.
type decimal struct {
	negative bool
	digits   uint64
	size     int // how many digits there are, at most maxSize
	exp      int
}

const maxSize = 19 // digits that fit 64 bits, whichever they are

var powers = [maxSize + 1]uint64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19}

// parseDecimal reads a JSON number. It reports false for one of more than maxSize digits between its
// first and its last that is not 0; such a one is for big.Rat.
func parseDecimal(text []byte) (d decimal, ok bool) {
	zeros, scale, point := 0, 0, 0
	for i, c := range text {
		switch {
		case c == '-':
			d.negative = true
			continue
		case c == '.':
			point = 1
			continue
		case c == 'e' || c == 'E':
			scale += exponent(text[i+1:])
			return d.shift(scale + zeros), true
		}
		scale -= point
		if c == '0' {
			zeros++
			continue
		}
		if d.digits == 0 {
			zeros = 0
		}
		if d.size+zeros >= maxSize {
			return d, false
		}
		d.size += zeros + 1
		d.digits = d.digits*powers[zeros]*10 + uint64(c-'0')
		zeros = 0
	}
	return d.shift(scale + zeros), true
}

// shift is the decimal × 10^exp, of one whose exp is not set yet.
func (d decimal) shift(exp int) decimal {
	if d.digits == 0 {
		return decimal{}
	}
	d.exp = exp
	return d
}

// exponent reads the digits behind an e. The scanner has seen to it that they are few.
func exponent(text []byte) int {
	n, sign := 0, 1
	for _, c := range text {
		switch c {
		case '+':
		case '-':
			sign = -1
		default:
			n = n*10 + int(c-'0')
		}
	}
	return sign * n
}

func (d decimal) isInteger() bool { return d.exp >= 0 }

func (d decimal) compare(o decimal) int {
	switch {
	case d.negative != o.negative:
		if d.negative {
			return -1
		}
		return 1
	case d.negative:
		d, o = o, d
	}
	if d.digits == 0 || o.digits == 0 {
		return cmp.Compare(d.digits, o.digits)
	}
	if order := cmp.Compare(d.size+d.exp, o.size+o.exp); order != 0 {
		return order
	}
	// The first digits of both stand in the same place; let the last ones, too.
	if d.size < o.size {
		d.digits *= powers[o.size-d.size]
	} else {
		o.digits *= powers[d.size-o.size]
	}
	return cmp.Compare(d.digits, o.digits)
}

// multipleOf reports whether d is a multiple of o, which is not 0. ok is false when it takes more than
// 128 bits to find out.
func (d decimal) multipleOf(o decimal) (yes, ok bool) {
	switch shift := d.exp - o.exp; {
	case d.digits == 0:
		return true, true
	case shift > maxSize:
		return false, false
	case shift >= 0:
		high, low := bits.Mul64(d.digits, powers[shift])
		return bits.Rem64(high, low, o.digits) == 0, true
	case -shift > maxSize:
		return false, true // d's digits do not end in as many zeros
	default:
		high, low := bits.Mul64(o.digits, powers[-shift])
		return high == 0 && d.digits%low == 0, true
	}
}

// bound is a number that a schema compares with.
type bound struct {
	decimal
	exact bool     // decimal is the number
	rat   *big.Rat // the number, always
}

func newBound(r *big.Rat) *bound {
	if r == nil {
		return nil
	}
	places, finite := r.FloatPrec()
	b := &bound{rat: r}
	if finite {
		b.decimal, b.exact = parseDecimal([]byte(r.FloatString(places)))
	}
	return b
}

// compare compares a JSON number with the bound.
func (b *bound) compare(text []byte) int {
	if d, ok := parseDecimal(text); ok && b.exact {
		return d.compare(b.decimal)
	}
	return rat(text).Cmp(b.rat)
}

// divides reports whether a JSON number is a multiple of the bound.
func (b *bound) divides(text []byte) bool {
	if d, ok := parseDecimal(text); ok && b.exact {
		if yes, ok := d.multipleOf(b.decimal); ok {
			return yes
		}
	}
	n := rat(text)
	return n.Quo(n, b.rat).IsInt()
}

func isInteger(text []byte) bool {
	if d, ok := parseDecimal(text); ok {
		return d.isInteger()
	}
	return rat(text).IsInt()
}

func sameNumber(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	d, few := parseDecimal(a)
	o, fewToo := parseDecimal(b)
	switch {
	case few != fewToo:
		return false
	case few:
		return d == o
	}
	return rat(a).Cmp(rat(b)) == 0
}

// rat reads a JSON number of any size. It costs a thousand times what a decimal does.
func rat(text []byte) *big.Rat {
	r, _ := new(big.Rat).SetString(string(text)) // the scanner found it good
	return r
}
