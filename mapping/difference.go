package mapping

import (
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// Missing returns what desired has and reported lacks: the members of desired, nested ones too, that reported does not
// have or has with another value. Objects are compared member by member, arrays as a whole, numbers by their
// exact value. A null in desired is missing as long as reported has anything there. Members keep the bytes
// that they have in desired; what is no object counts as an empty one.
func Missing(desired, reported []byte) []byte {
	return missing(parse(desired), parse(reported))
}

func missing(desired, reported gjson.Result) []byte {
	var out object
	have := membersOf(reported)
	each(desired, func(k, want gjson.Result) {
		got, ok := have.find(k.Str)
		ok = ok && got.Type != gjson.Null
		switch {
		case want.Type == gjson.Null && !ok:
		case ok && want.IsObject() && got.IsObject():
			if inner := missing(want, got); !emptyRaw(inner) {
				out.putBytes(k.Raw, inner)
			}
		case !ok || !equal(want, got, sameNumber):
			out.put(k.Raw, want.Raw)
		}
	})
	return out.end()
}

// Unconfirmed returns what is left of a merge patch without everything that doc already has. Numbers are compared as doubles,
// because whoever keeps doc may keep them as doubles.
func Unconfirmed(patch, doc []byte) []byte {
	return unconfirmed(parse(patch), parse(doc))
}

func unconfirmed(patch, doc gjson.Result) []byte {
	var out object
	have := membersOf(doc)
	each(patch, func(k, want gjson.Result) {
		got, ok := have.find(k.Str)
		ok = ok && got.Type != gjson.Null
		switch {
		case want.Type == gjson.Null && !ok:
		case ok && want.IsObject() && got.IsObject():
			if inner := unconfirmed(want, got); !emptyRaw(inner) {
				out.putBytes(k.Raw, inner)
			}
		case !ok || !equal(want, got, nearNumber):
			out.put(k.Raw, want.Raw)
		}
	})
	return out.end()
}

// Patch returns the merge patch that turns from into to. A null that a member of to has counts as no member.
func Patch(from, to []byte) []byte { return patch(parse(from), parse(to)) }

func patch(from, to gjson.Result) []byte {
	var out object
	have, want := membersOf(from), membersOf(to)
	each(from, func(k, v gjson.Result) {
		if w, ok := want.find(k.Str); v.Type != gjson.Null && (!ok || w.Type == gjson.Null) {
			out.put(k.Raw, "null")
		}
	})
	each(to, func(k, v gjson.Result) {
		got, ok := have.find(k.Str)
		switch {
		case v.Type == gjson.Null:
		case ok && v.IsObject() && got.IsObject():
			if inner := patch(got, v); !emptyRaw(inner) {
				out.putBytes(k.Raw, inner)
			}
		case !ok || got.Raw != v.Raw:
			out.put(k.Raw, v.Raw)
		}
	})
	return out.end()
}

// equal compares two values as JSON means them: the order of members and the spelling of strings don't count.
func equal(a, b gjson.Result, number func(a, b string) bool) bool {
	switch {
	case a.Type != b.Type || a.IsObject() != b.IsObject():
		return false
	case a.Type == gjson.Number:
		return number(a.Raw, b.Raw)
	case a.IsArray():
		x, y := a.Array(), b.Array()
		for i := range x {
			if len(x) != len(y) || !equal(x[i], y[i], number) {
				return false
			}
		}
		return len(x) == len(y)
	case a.IsObject():
		x, y := membersOf(a), membersOf(b)
		for _, m := range x.all {
			if w, ok := y.find(m.name); !ok || !equal(m.value, w, number) {
				return false
			}
		}
		return len(x.all) == len(y.all)
	}
	return a.String() == b.String()
}

func nearNumber(a, b string) bool {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && x == y || sameNumber(a, b)
}

// sameNumber compares two JSON numbers by value: 1.0, 1 and 10e-1 are the same.
func sameNumber(a, b string) bool { return a == b || decimalOf(a) == decimalOf(b) }

// decimal is a number: its digits without zeros at either end, and the power of ten of the first of them.
type decimal struct {
	negative bool
	digits   string
	power    int
	odd      string // the number as it is, when its exponent is absurd
}

func decimalOf(raw string) decimal {
	d := decimal{negative: strings.HasPrefix(raw, "-")}
	mantissa, exponent := strings.TrimPrefix(raw, "-"), 0
	if i := strings.IndexAny(mantissa, "eE"); i >= 0 {
		var err error
		if exponent, err = strconv.Atoi(mantissa[i+1:]); err != nil || exponent > 1e9 || exponent < -1e9 {
			return decimal{odd: raw}
		}
		mantissa = mantissa[:i]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	d.power = exponent + len(digits) - len(fraction)
	if d.digits = strings.TrimRight(digits, "0"); d.digits == "" {
		return decimal{} // no number has a negative zero for us
	}
	return d
}
