package fleetsim

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// Delta returns the members of desired, nested ones too, that reported lacks or has with another
// value. Members keep the bytes that they have in desired. Values are compared as JSON means them:
// 1.0 and 1 are equal, and so are objects with their members in another order; arrays are equal or
// not as a whole. What is no object counts as an empty one.
func Delta(desired, reported []byte) []byte {
	out, _ := delta(gjson.ParseBytes(desired), gjson.ParseBytes(reported))
	return out
}

func delta(desired, reported gjson.Result) (out []byte, differs bool) {
	var b bytes.Buffer
	b.WriteByte('{')
	have := members(reported)
	if desired.IsObject() {
		desired.ForEach(func(k, want gjson.Result) bool {
			got, ok := have[k.String()]
			value := []byte(want.Raw)
			switch {
			case ok && want.IsObject() && got.IsObject():
				var nested bool
				if value, nested = delta(want, got); !nested {
					return true
				}
			case ok && same(want, got):
				return true
			}
			if b.Len() > 1 {
				b.WriteByte(',')
			}
			b.WriteString(k.Raw)
			b.WriteByte(':')
			b.Write(value)
			return true
		})
	}
	b.WriteByte('}')
	return b.Bytes(), b.Len() > 2
}

func members(v gjson.Result) map[string]gjson.Result {
	m := map[string]gjson.Result{}
	if v.IsObject() {
		v.ForEach(func(k, v gjson.Result) bool { m[k.String()] = v; return true })
	}
	return m
}

func same(a, b gjson.Result) bool {
	switch {
	case a.Type != b.Type || a.IsObject() != b.IsObject() || a.IsArray() != b.IsArray():
		return false
	case a.Type == gjson.Number:
		return decimal(a.Raw) == decimal(b.Raw)
	case a.Type == gjson.String:
		return a.Str == b.Str
	case a.IsArray():
		x, y := a.Array(), b.Array()
		for i := range x {
			if len(x) != len(y) || !same(x[i], y[i]) {
				return false
			}
		}
		return len(x) == len(y)
	case a.IsObject():
		x, y := members(a), members(b)
		for k, v := range x {
			if w, ok := y[k]; !ok || !same(v, w) {
				return false
			}
		}
		return len(x) == len(y)
	}
	return true
}

// decimal is a number's one spelling: sign, digits without zeros at either end, and the power of
// ten. It goes through no float, so that digits beyond a float's count too.
func decimal(n string) string {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(n), "e")
	sign := ""
	if rest, negative := strings.CutPrefix(mantissa, "-"); negative {
		sign, mantissa = "-", rest
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return "0"
	}
	trimmed := strings.TrimRight(digits, "0")
	power := int64(0)
	if exponent != "" {
		var err error
		if power, err = strconv.ParseInt(exponent, 10, 64); err != nil || power > 1<<62 || power < -1<<62 {
			return n // out of all bounds: equal only to its own spelling
		}
	}
	power += int64(len(digits) - len(trimmed) - len(fraction))
	return sign + trimmed + "e" + strconv.FormatInt(power, 10)
}

// stamps mirrors a document, with {"timestamp":…} for every leaf.
func stamps(doc gjson.Result, path string, at func(path string) int64) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	doc.ForEach(func(k, v gjson.Result) bool {
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.WriteString(k.Raw)
		b.WriteByte(':')
		below := path + "/" + pointerEscape.Replace(k.String())
		if v.IsObject() && len(members(v)) > 0 {
			b.Write(stamps(v, below, at))
		} else {
			b.Write(encode(map[string]int64{"timestamp": at(below)}))
		}
		return true
	})
	b.WriteByte('}')
	return b.Bytes()
}

var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")
