package mapping

import "github.com/tidwall/gjson"

// Merge applies an RFC 7396 merge patch to a JSON document without touching what it does not
// change: numbers, strings and the spacing inside kept values stay as they were written. Members of
// the target keep their place, new ones follow in the patch's order. A target or patch that is no
// object counts as the RFC says: the patch replaces the target.
func Merge(target, patch []byte) []byte {
	return merge(parse(target), parse(patch), false)
}

// MergeKeepingNulls is Merge, except that a null in the patch stays in the result. So whoever keeps the document
// gets the deletion, once.
func MergeKeepingNulls(target, patch []byte) []byte {
	return merge(parse(target), parse(patch), true)
}

func merge(target, patch gjson.Result, keepNulls bool) []byte {
	if !patch.IsObject() {
		return []byte(patch.Raw)
	}
	var out object
	changes := membersOf(patch)
	each(target, func(k, v gjson.Result) {
		change, changed := changes.find(k.Str)
		switch {
		case !changed:
			out.put(k.Raw, v.Raw)
		case change.Type == gjson.Null && keepNulls:
			out.put(k.Raw, "null")
		case change.Type != gjson.Null:
			out.merge(k.Raw, v, change, keepNulls)
		}
	})
	out.rest(changes, keepNulls)
	return out.end()
}
