package mapping

import "github.com/tidwall/gjson"

// Wanted returns what is desired after a delta: what state, the delta, names, with its nulls, and of desired what is
// no longer missing in reported. What is missing and state no longer names was withdrawn, or the cloud would name
// it. pending is a merge patch of what was reported and the writer of the delta may not know: what it touches stays.
func Wanted(desired, reported, state, pending []byte) []byte {
	shown := gjson.ParseBytes(reported)
	if !shown.IsObject() {
		shown = gjson.Parse("{}")
	}
	return wanted(gjson.ParseBytes(desired), shown, gjson.ParseBytes(state), gjson.ParseBytes(pending))
}

// wanted goes through all four at once. A reported that is no object misses all that is desired, nulls too.
func wanted(desired, reported, state, pending gjson.Result) []byte {
	var out object
	have, named, touched := membersOf(reported), membersOf(state), membersOf(pending)
	each(desired, func(k, d gjson.Result) {
		got, shown := have.find(k.Str)
		shown = shown && got.Type != gjson.Null
		s, has := named.find(k.Str)
		p, is := touched.find(k.Str)
		switch {
		case has && (is && !p.IsObject() || !s.IsObject() || !d.IsObject()):
			out.merge(k.Raw, d, s, true)
		case has, is && p.IsObject() && d.IsObject():
			out.putBytes(k.Raw, wanted(d, got, s, p))
		case is, d.Type == gjson.Null && !shown && reported.IsObject():
			out.put(k.Raw, d.Raw)
		case d.IsObject() && got.IsObject():
			if inner := wanted(d, got, s, p); !emptyRaw(inner) || len(membersOf(d).all) == 0 {
				out.putBytes(k.Raw, inner)
			}
		case shown && equal(d, got, sameNumber):
			out.put(k.Raw, d.Raw)
		}
	})
	out.rest(named, true)
	return out.end()
}
