package mapping

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/tidwall/gjson"
)

// The examples of RFC 7396, appendix A, whose targets and patches are objects, and what the RFC does
// not say: what is kept stays as it was written.
func TestMerge(t *testing.T) {
	for _, c := range []struct{ target, patch, want, told string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`, `{"a":null}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`, `{"a":null,"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`, `{"a":{"b":"d","c":null}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`, `{"e":null,"a":1}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`, `{"a":"b","c":null}`},
		{``, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`, `{"a":{"bb":{"ccc":null}}}`},
		{`{"n":12345678901234567890, "s":"\u00fc", "o":{ "x" : 1.50 }}`, `{"m":1e3}`,
			`{"n":12345678901234567890,"s":"\u00fc","o":{ "x" : 1.50 },"m":1e3}`, `{"n":12345678901234567890,"s":"\u00fc","o":{ "x" : 1.50 },"m":1e3}`},
		{`{"\u0061":1}`, `{"a":2}`, `{"\u0061":2}`, `{"\u0061":2}`},
	} {
		if got := string(Merge([]byte(c.target), []byte(c.patch))); got != c.want {
			t.Errorf("Merge(%s, %s) = %s, want %s", c.target, c.patch, got, c.want)
		}
		if got := string(MergeKeepingNulls([]byte(c.target), []byte(c.patch))); got != c.told {
			t.Errorf("MergeKeepingNulls(%s, %s) = %s, want %s", c.target, c.patch, got, c.told)
		}
	}
}

// mergeOracle is the RFC's own algorithm over decoded values.
func mergeOracle(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	out := map[string]any{}
	if t, ok := target.(map[string]any); ok {
		for k, v := range t {
			out[k] = v
		}
	}
	for k, v := range p {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = mergeOracle(out[k], v)
		}
	}
	return out
}

func FuzzMerge(f *testing.F) {
	f.Add(`{"a":{"b":1}}`, `{"a":{"b":null,"c":[1]}}`)
	f.Add(`{}`, `{"x":"\ud83d\ude00"}`)
	f.Fuzz(func(t *testing.T, target, patch string) {
		var a, p any
		if json.Unmarshal([]byte(target), &a) != nil || json.Unmarshal([]byte(patch), &p) != nil {
			return
		}
		if _, object := p.(map[string]any); !object || hasDuplicates(target) || hasDuplicates(patch) {
			return // the guard lets neither in
		}
		var got any
		if err := json.Unmarshal(Merge([]byte(target), []byte(patch)), &got); err != nil {
			t.Fatalf("Merge(%s, %s) is no JSON: %v", target, patch, err)
		}
		if want := mergeOracle(a, p); !reflect.DeepEqual(got, want) {
			t.Fatalf("Merge(%s, %s) = %v, want %v", target, patch, got, want)
		}
	})
}

func hasDuplicates(doc string) bool {
	found := false
	var walk func(v gjson.Result)
	walk = func(v gjson.Result) {
		if !v.IsObject() && !v.IsArray() {
			return
		}
		seen := map[string]bool{}
		v.ForEach(func(k, v gjson.Result) bool {
			if k.Type == gjson.String {
				var key string // as encoding/json reads it: gjson reads bad escapes otherwise
				if json.Unmarshal([]byte(k.Raw), &key) != nil || key != k.String() || seen[key] {
					found = true
				}
				seen[key] = true
			}
			walk(v)
			return !found
		})
	}
	walk(gjson.Parse(doc))
	return found
}
