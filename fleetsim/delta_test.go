package fleetsim_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

func TestDelta(t *testing.T) {
	for _, c := range []struct{ desired, reported, want string }{
		{`{}`, `{}`, `{}`},
		{``, ``, `{}`},
		{`{"a":1}`, ``, `{"a":1}`},
		{`{"a":1}`, `null`, `{"a":1}`},
		{`{"a":1}`, `{"a":1,"b":2}`, `{}`},
		{`{"a":1.0,"b":1e2,"c":-0,"d":0.10e1}`, `{"a":1,"b":100,"c":0,"d":1}`, `{}`},
		{`{"a":9007199254740993}`, `{"a":9007199254740992}`, `{"a":9007199254740993}`},
		{`{"a":1e999999999999999999999}`, `{"a":1e999999999999999999998}`, `{"a":1e999999999999999999999}`},
		{`{"a":{"b":1,"c":{"d":2.50,"e":3}}}`, `{"a":{"b":1,"c":{"e":3}}}`, `{"a":{"c":{"d":2.50}}}`},
		{`{"a":{"b":1}}`, `{"a":5}`, `{"a":{"b":1}}`},
		{`{"a":{}}`, `{}`, `{"a":{}}`},
		{`{"a":{}}`, `{"a":{"b":1}}`, `{}`},
		{`{"a":[1,{"x":1,"y":2}]}`, `{"a":[1.0,{"y":2,"x":1}]}`, `{}`},
		{`{"a":[1,2]}`, `{"a":[1,2,3]}`, `{"a":[1,2]}`},
		{`{"a":[1,2,3]}`, `{"a":[1,2]}`, `{"a":[1,2,3]}`},
		{`{"a":[{"x":1}]}`, `{"a":[{"x":1,"y":2}]}`, `{"a":[{"x":1}]}`},
		{`{"a":"x"}`, `{"a":"\u0078"}`, `{}`},
		{`{"\u0061":1}`, `{"a":1}`, `{}`},
		{`{"a":true,"b":false}`, `{"a":true,"b":true}`, `{"b":false}`},
		{`{"a":"1"}`, `{"a":1}`, `{"a":"1"}`},
		{`{"a.b":{"*":1}}`, `{"a":{"b":{"*":1}}}`, `{"a.b":{"*":1}}`},
	} {
		if got := fleetsim.Delta([]byte(c.desired), []byte(c.reported)); string(got) != c.want {
			t.Errorf("desired %s, reported %s: %s, want %s", c.desired, c.reported, got, c.want)
		}
	}
}

// Reporting the delta makes it go away, and what is equal has none.
func FuzzDelta(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1,"b":{"c":[1,{"d":2}]}}`, `{"a":{"b":{}},"x":1e400}`, `{"a":null,"b":"\u00e9"}`, `{"":-0.0,"a/~":9007199254740993}`} {
		f.Add([]byte(s), []byte(`{"a":1}`))
		f.Add([]byte(`{"a":{"b":2},"z":[0]}`), []byte(s))
	}
	f.Fuzz(func(t *testing.T, desired, reported []byte) {
		desired, ok := object(desired)
		reported, ok2 := object(reported)
		if !ok || !ok2 {
			return
		}
		if d := fleetsim.Delta(desired, desired); string(d) != "{}" {
			t.Fatalf("%s differs from itself by %s", desired, d)
		}
		d := fleetsim.Delta(desired, reported)
		if !json.Valid(d) {
			t.Fatalf("%s is not JSON", d)
		}
		merged := mapping.Merge(reported, d)
		if again := fleetsim.Delta(desired, merged); string(again) != "{}" {
			t.Fatalf("desired %s, reported %s: after reporting %s there is still %s", desired, reported, d, again)
		}
	})
}

// object gives a JSON object without equal keys and without nulls, which a merge patch cannot set.
func object(b []byte) ([]byte, bool) {
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if d.Decode(&m) != nil || m == nil || d.More() {
		return nil, false
	}
	b, err := json.Marshal(m)
	return mapping.Merge(nil, b), err == nil
}
