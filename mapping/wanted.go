package mapping

import "github.com/tidwall/gjson"

// Wanted returns the desired state after a delta, state. It has everything that the delta names, with its nulls, and those
// members of desired that reported has as well. A member that reported does not have and the delta does not name was
// withdrawn; otherwise the delta would name it. pending is a merge patch of reports that the writer of the delta may not
// have seen yet: desired members that it touches stay.
func Wanted(desired, reported, state, pending []byte) []byte {
	shown := parse(reported)
	if !shown.IsObject() {
		shown = gjson.Parse("{}")
	}
	return wanted(parse(desired), shown, parse(state), parse(pending))
}

// wanted goes through all four at once. A reported that is no object misses all that is desired, nulls too.
func wanted(desired, reported, state, pending gjson.Result) []byte {
	var out object
	var room [3][fewMembers / 2]member
	have, named, touched := membersIn(room[0][:0], reported), membersIn(room[1][:0], state), membersIn(room[2][:0], pending)
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
