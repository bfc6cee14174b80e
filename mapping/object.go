package mapping

import "github.com/tidwall/gjson"

// object prints a JSON object, member by member.
type object struct{ b []byte }

func (o *object) key(k string) {
	if o.b == nil {
		o.b = append(make([]byte, 0, printedSize), '{')
	} else {
		o.b = append(o.b, ',')
	}
	o.b = append(append(o.b, k...), ':')
}

// printedSize is enough for an ordinary state.
const printedSize = 256

func (o *object) put(key, value string) {
	o.key(key)
	o.b = append(o.b, value...)
}

func (o *object) putBytes(key string, value []byte) {
	o.key(key)
	o.b = append(o.b, value...)
}

// merge adds a member: the value as a merge patch changes it.
func (o *object) merge(key string, target, patch gjson.Result, keepNulls bool) {
	if patch.IsObject() {
		o.putBytes(key, merge(target, patch, keepNulls))
		return
	}
	o.put(key, patch.Raw)
}

// rest adds the members of a merge patch that were not looked up.
func (o *object) rest(patch members, keepNulls bool) {
	for _, m := range patch.all {
		if !m.found && (m.value.Type != gjson.Null || keepNulls) {
			o.merge(m.key, gjson.Result{}, m.value, keepNulls)
		}
	}
}

func (o *object) end() []byte {
	if o.b == nil {
		return []byte("{}")
	}
	return append(o.b, '}')
}

func emptyRaw(object []byte) bool { return len(object) == len("{}") }
