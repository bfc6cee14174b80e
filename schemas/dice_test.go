package schemas

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// dice decide what a generated schema or payload is like: by the bytes given, so that a fuzzer can
// steer, then by chance that is the same each time.
type dice struct {
	bytes []byte
	then  *rand.Rand
}

func newDice(bytes []byte) *dice { return &dice{bytes, rand.New(rand.NewPCG(1, uint64(len(bytes))))} }

// roll is one of 0 to n-1.
func (d *dice) roll(n int) int {
	if len(d.bytes) == 0 {
		return d.then.IntN(n)
	}
	b := int(d.bytes[0])
	d.bytes = d.bytes[1:]
	return b % n
}

func pick[T any](d *dice, from ...T) T { return from[d.roll(len(from))] }

var (
	someNames    = []string{"a", "b", "c", "aa", "ä", "a/b", "x1", "x22", "", "m~n", "a name of some length", "\n"}
	somePatterns = []string{"^a", "b$", "^x[0-9]+$", "ä", "^.{2}$", "a", "^$", "😀|e"}
	someStrings  = []string{"", "a", "ab", "äö", "😀", "x1", "b", "a name of some length", "\"\\\n", "ä", "<&>", "1"}
	someNumbers  = []string{"0", "-0", "1", "1.0", "10e-1", "2", "3", "-7", "2.5", "0.1", "0.30", "1e2", "100", "1E+2", "-0.0e5", "1e400", "1e-400",
		"-1e400", "12345678901234567890", "12345678901234567891", "9007199254740993", "9007199254740992.0", "9999999999999999999", "1e19", "1e20",
		"18446744073709551616", "0.1234567890123456789", "0.12345678901234567891", "3.0000000000000000000000001", "5", "7.5", "1000000000000000000000"}
)

// number spells one of a few values, or one nobody has thought of.
func (d *dice) number() string {
	if d.roll(4) != 0 {
		return pick(d, someNumbers...)
	}
	digits := func(most int) string {
		var b strings.Builder
		for range 1 + d.roll(most) {
			b.WriteByte(byte('0' + pick(d, 0, 0, d.roll(10))))
		}
		return b.String()
	}
	whole := strings.TrimLeft(digits(pick(d, 1, 3, 30)), "0")
	text := pick(d, "", "-") + pick(d, "0", "1"+whole, "9"+whole)
	if d.roll(2) == 0 {
		text += "." + digits(pick(d, 2, 25))
	}
	if d.roll(3) == 0 {
		text += pick(d, "e", "E") + pick(d, "", "-", "+") + pick(d, "0", "1", "2", "18", "19", "20", "39", "400")
	}
	return text
}

// any is a JSON value of any kind, as text.
func (d *dice) any(depth int) string {
	kind := d.roll(8)
	if depth <= 0 {
		kind %= 5
	}
	switch kind {
	case 0:
		return pick(d, "null", "true", "false")
	case 1, 2:
		return d.number()
	case 3, 4:
		return d.quote(pick(d, someStrings...))
	case 5:
		var items []string
		for range d.roll(4) {
			items = append(items, d.any(depth-1))
		}
		return d.array(items)
	}
	members := map[string]string{}
	for range d.roll(4) {
		members[pick(d, someNames...)] = d.any(depth - 1)
	}
	return d.object(members)
}

// quote writes a string, now and then with escapes that it does not need.
func (d *dice) quote(s string) string {
	plain, _ := json.Marshal(s)
	if d.roll(4) != 0 {
		return string(plain)
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		if r > 0xFFFF {
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04X`, 0xD800+r>>10, 0xDC00+r&0x3FF)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String() + `"`
}

func (d *dice) space() string { return pick(d, "", "", "", " ", "\n\t", " \r ") }

func (d *dice) array(items []string) string {
	return "[" + d.space() + strings.Join(items, d.space()+","+d.space()) + "]" + d.space()
}

// object writes members in any order.
func (d *dice) object(members map[string]string) string {
	var list []string
	for _, name := range names(members) {
		list = slices.Insert(list, d.roll(len(list)+1), d.quote(name)+d.space()+":"+d.space()+members[name])
	}
	return d.space() + "{" + d.space() + strings.Join(list, d.space()+","+d.space()) + d.space() + "}"
}

// names lists what a map has, in an order that is the same each time.
func names[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
