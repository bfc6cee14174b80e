package mapping

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/tidwall/gjson"
)

func TestMissing(t *testing.T) {
	for _, c := range []struct{ desired, reported, want string }{
		{`{"m":"x"}`, `{}`, `{"m":"x"}`},
		{`{"m":"x"}`, `{"m":"y"}`, `{"m":"x"}`},
		{`{"m":"x"}`, `{"m":"\u0078","other":1}`, `{}`},
		{`{"a":{"b":1,"c":2}}`, `{"a":{"b":1}}`, `{"a":{"c":2}}`},
		{`{"a":{"b":1,"c":2}}`, `{"a":{"c":2,"b":1.0}}`, `{}`},
		{`{"a":{"b":1}}`, `{"a":7}`, `{"a":{"b":1}}`},
		{`{"a":7}`, `{"a":{"b":1}}`, `{"a":7}`},
		{`{"a":{}}`, `{}`, `{"a":{}}`},
		{`{"a":{}}`, `{"a":{"b":1}}`, `{}`},
		{`{"a":[1,{"x":1}]}`, `{"a":[1.0,{"x":1}]}`, `{}`},
		{`{"a":[1,2]}`, `{"a":[2,1]}`, `{"a":[1,2]}`},
		{`{"a":[1,2]}`, `{"a":[1]}`, `{"a":[1,2]}`},
		{`{"a":null}`, `{"a":1}`, `{"a":null}`},
		{`{"a":null}`, `{}`, `{}`},
		{`{"a":1}`, `{"a":null}`, `{"a":1}`},
		{`{"a":false}`, `{"a":null}`, `{"a":false}`},
		{`{"n":9007199254740993}`, `{"n":9007199254740992}`, `{"n":9007199254740993}`},
		{`{"n":1.50e2}`, `{"n":150}`, `{}`},
		{`{"n":-0}`, `{"n":0.0e5}`, `{}`},
		{`{"n":1e999999999999999999}`, `{"n":1e999999999999999998}`, `{"n":1e999999999999999999}`},
		{`{"n":"1"}`, `{"n":1}`, `{"n":"1"}`},
		{`null`, `{"a":1}`, `{}`}, {`{"a":1}`, `null`, `{"a":1}`}, {``, ``, `{}`}, {`[1]`, `{}`, `{}`},
	} {
		if got := string(Missing([]byte(c.desired), []byte(c.reported))); got != c.want {
			t.Errorf("Missing(%s, %s) = %s, want %s", c.desired, c.reported, got, c.want)
		}
	}
}

func TestUnconfirmed(t *testing.T) {
	for _, c := range []struct{ patch, doc, want string }{
		{`{"a":1,"b":2}`, `{"a":1}`, `{"b":2}`},
		{`{"a":null,"b":null}`, `{"a":1}`, `{"a":null}`},
		{`{"a":{"b":1,"c":null}}`, `{"a":{"b":1}}`, `{}`},
		{`{"a":{"b":1,"c":null}}`, `{"a":{"c":1}}`, `{"a":{"b":1,"c":null}}`},
		{`{"a":{}}`, `{"a":{"x":1}}`, `{}`},
		{`{"a":{}}`, `{"a":1}`, `{"a":{}}`},
		{`{"n":12345678901234567890}`, `{"n":1.2345678901234567e19}`, `{}`},
		{`{"a":[1,2]}`, `{"a":[1]}`, `{"a":[1,2]}`},
	} {
		if got := string(Unconfirmed([]byte(c.patch), []byte(c.doc))); got != c.want {
			t.Errorf("Unconfirmed(%s, %s) = %s, want %s", c.patch, c.doc, got, c.want)
		}
	}
}

// What is missing is what makes reported satisfy desired, and nothing of it is missing twice; a patch leads from one
// document to the other.
func FuzzDifference(f *testing.F) {
	f.Add(`{"a":{"b":1,"c":[1]}}`, `{"a":{"b":2},"d":null}`)
	f.Add(`{"n":1.0}`, `{"n":1,"x":{}}`)
	f.Fuzz(func(t *testing.T, desired, reported string) {
		if !ordinary(desired) || !ordinary(reported) {
			return
		}
		d, r := []byte(desired), []byte(reported)
		if rest := Missing(d, MergeKeepingNulls(r, Missing(d, r))); string(rest) != "{}" {
			t.Errorf("desired %s, reported %s: with all that is missing, %s is missing", d, r, rest)
		}
		if rest := Unconfirmed(d, Merge(r, d)); string(rest) != "{}" {
			t.Errorf("patch %s of %s: %s is not confirmed by the result", d, r, rest)
		}
		var got, want any
		if json.Unmarshal(Merge(r, Patch(r, d)), &got) != nil || json.Unmarshal(d, &want) != nil {
			t.Fatalf("no JSON: %s", Patch(r, d))
		}
		if got, want = without(got), without(want); !reflect.DeepEqual(got, want) {
			t.Errorf("Patch(%s, %s) = %s", r, d, Patch(r, d))
		}
	})
}

// ordinary reports whether a text is a JSON object without equal keys.
func ordinary(doc string) bool {
	var v map[string]any
	return json.Unmarshal([]byte(doc), &v) == nil && gjson.Valid(doc) && !hasDuplicates(doc) && v != nil
}

// without is a document without its nulls, which a merge patch can't tell from absence.
func without(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := map[string]any{}
	for k, v := range m {
		if v != nil {
			out[k] = without(v)
		}
	}
	return out
}
