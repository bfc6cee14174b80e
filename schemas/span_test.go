package schemas

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

func TestSpan(t *testing.T) {
	for _, c := range []struct{ payload, pointer, want string }{
		{` {"a": {"b" : [1, {"c":"x"} ]}} `, "", `{"a": {"b" : [1, {"c":"x"} ]}}`},
		{` {"a": {"b" : [1, {"c":"x"} ]}} `, "/a", `{"b" : [1, {"c":"x"} ]}`},
		{` {"a": {"b" : [1, {"c":"x"} ]}} `, "/a/b/0", `1`},
		{` {"a": {"b" : [1, {"c":"x"} ]}} `, "/a/b/1/c", `"x"`},
		{`{"a/b":{"~":true},"é":null}`, "/a~1b/~0", "true"},
		{`{"a/b":{"~":true},"é":null}`, "/é", "null"},
		{`{"\u0061":1}`, "/a", "1"},
		{`{"":{"":2}}`, "//", "2"},
		{`{"a":1,"a":[2]}`, "/a", "[2]"},
		{`["x"]`, "/0", `"x"`}, {`"x"`, "", `"x"`},
		{`{"a":1}`, "/b", ""}, {`{"a":1}`, "/a/b", ""}, {`[1]`, "/1", ""}, {`[1]`, "/00", ""}, {`[1]`, "/-", ""}, {`{"a":`, "/a", ""}, {``, "", ""}, {`{"a":1}`, "a", ""},
	} {
		from, to, ok := Span([]byte(c.payload), c.pointer)
		if got := c.payload[from:to]; got != c.want || ok != (c.want != "") {
			t.Errorf("%s at %q: %q %t", c.payload, c.pointer, got, ok)
		}
	}
}

// FuzzSpan compares with a walk through what encoding/json decodes.
func FuzzSpan(f *testing.F) {
	f.Add([]byte(`{"a": [1, {"b~/": "\u00e9"}], "": {}}`))
	f.Add([]byte("[[],{\"a\":1,\"a\":2}]"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var all any
		d := json.NewDecoder(bytes.NewReader(payload))
		d.UseNumber()
		if d.Decode(&all) != nil || !json.Valid(payload) || bytes.Contains(payload, []byte(`\u`)) {
			return // a half of a character decodes to something else here and there
		}
		var walk func(pointer string, want any)
		walk = func(pointer string, want any) {
			from, to, ok := Span(payload, pointer)
			if !ok {
				t.Fatalf("%s: nothing at %q", payload, pointer)
			}
			var got any
			d := json.NewDecoder(bytes.NewReader(payload[from:to]))
			d.UseNumber()
			if err := d.Decode(&got); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%s at %q: %s (%v), want %v", payload, pointer, payload[from:to], err, want)
			}
			switch v := want.(type) {
			case map[string]any:
				for name, inner := range v {
					if strings.ToValidUTF8(name, "") == name && !strings.ContainsRune(name, '\uFFFD') {
						walk(pointer+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(name), inner)
					}
				}
			case []any:
				for i, inner := range v {
					walk(pointer+"/"+strconv.Itoa(i), inner)
				}
			}
		}
		walk("", all)
	})
}
