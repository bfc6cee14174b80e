package mapping

import (
	"bytes"

	"github.com/tidwall/gjson"
)

// Merge applies an RFC 7396 merge patch to a JSON document without touching what it does not
// change: numbers, strings and the spacing inside kept values stay as they were written. Members of
// the target keep their place, new ones follow in the patch's order. A target or patch that is no
// object counts as the RFC says: the patch replaces the target.
func Merge(target, patch []byte) []byte { return merge(target, patch, false) }

// MergeKeepingNulls is Merge, except that a null in the patch stays in the result: it is the form
// in which a deletion is told once to somebody who keeps the document.
func MergeKeepingNulls(target, patch []byte) []byte { return merge(target, patch, true) }

func merge(target, patch []byte, keepNulls bool) []byte {
	p := gjson.ParseBytes(patch)
	if !p.IsObject() {
		return []byte(p.Raw)
	}
	var out bytes.Buffer
	out.WriteByte('{')
	put := func(key gjson.Result, value []byte) {
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		out.WriteString(key.Raw)
		out.WriteByte(':')
		out.Write(value)
	}
	members := map[string]gjson.Result{}
	p.ForEach(func(k, v gjson.Result) bool { members[k.String()] = v; return true })

	seen := map[string]bool{}
	if t := gjson.ParseBytes(target); t.IsObject() {
		t.ForEach(func(k, v gjson.Result) bool {
			change, changed := members[k.String()]
			seen[k.String()] = true
			switch {
			case !changed:
				put(k, []byte(v.Raw))
			case change.Type == gjson.Null && keepNulls:
				put(k, []byte("null"))
			case change.Type != gjson.Null:
				put(k, merge([]byte(v.Raw), []byte(change.Raw), keepNulls))
			}
			return true
		})
	}
	p.ForEach(func(k, v gjson.Result) bool {
		if seen[k.String()] || v.Type == gjson.Null && !keepNulls {
			return true
		}
		put(k, merge(nil, []byte(v.Raw), keepNulls))
		return true
	})
	out.WriteByte('}')
	return out.Bytes()
}
