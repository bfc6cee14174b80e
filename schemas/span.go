package schemas

import (
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// Span finds the value that a JSON Pointer names in a payload: its first byte, and the one behind its last. Of members
// with the same name it is the last, which the checks look at. ok is false when the payload is no JSON or has no such
// value, as of a Detail about a member that is missing.
func Span(payload []byte, pointer string) (from, to int, ok bool) {
	if !gjson.ValidBytes(payload) || pointer != "" && pointer[0] != '/' {
		return 0, 0, false
	}
	text := string(payload)
	from = len(text) - len(strings.TrimLeft(text, " \t\r\n"))
	at := gjson.Parse(text)
	if pointer == "" {
		return from, from + len(strings.TrimRight(at.Raw, " \t\r\n")), true
	}
	for part := range strings.SplitSeq(pointer[1:], "/") {
		name := strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		array, n, found := at.IsArray(), 0, false
		var next gjson.Result
		offset := 0
		at.ForEach(func(key, value gjson.Result) bool {
			if array && strconv.Itoa(n) == name || !array && key.String() == name {
				next, found, offset = value, true, from+value.Index-at.Index
			}
			n++
			return true
		})
		if !found || !at.IsObject() && !array {
			return 0, 0, false
		}
		at, from = next, offset
	}
	return from, from + len(strings.TrimRight(at.Raw, " \t\r\n")), true
}
