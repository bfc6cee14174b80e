package schemas

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"fleetbridge/internal/race"
)

// checkText checks a payload that need not be guarded.
func (c *checker) checkText(t testing.TB, payload string) error {
	t.Helper()
	var s scanner
	if err := s.scan([]byte(payload), boundless); err != nil {
		t.Fatal(err)
	}
	return c.check(context.Background(), &s.tape, 0)
}

// What the protocol brings must not be slow.
func TestEveryChannelHasNodes(t *testing.T) {
	c := catalog(t)
	for _, name := range c.Names() {
		if ch := c.channels[name]; ch.checker.quick == nil {
			t.Errorf("%s: nodes lack %s", name, ch.checker.lacks)
		}
	}
}

func TestKeywordsThatNodesLack(t *testing.T) {
	for _, c := range []struct{ schema, lacks, good, bad string }{
		{`{"properties":{"a":{}},"unevaluatedProperties":false}`, "unevaluatedProperties", `{"a":1}`, `{"b":1}`},
		{`{"prefixItems":[{}],"unevaluatedItems":false}`, "unevaluatedItems", `[1]`, `[1,2]`},
		{`{"$dynamicAnchor":"n","properties":{"a":{"$dynamicRef":"#n"}},"type":"object"}`, "$dynamicRef", `{"a":{}}`, `{"a":1}`},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","items":[{"type":"null"}],"additionalItems":false}`, "$schema", `[null]`, `[null,1]`},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"a":{"$ref":"#/definitions/b","type":"null"}},"definitions":{"b":{"type":"string"}}}`,
			"$schema", `{"a":""}`, `{"a":null}`},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","format":"ipv4"}`, "$schema", `"127.0.0.1"`, `"localhost"`},
		{`{"properties":{"a":{"dependentSchemas":{"b":{"$ref":"#/properties/a"}}}}}`, "$ref to itself", `{"a":{}}`, `{"a":{"b":1}}`},
		{`{"enum":[1e401, 2]}`, "a number of that size", `2`, `3`},
		{`{"const":{"a":1,"a\u0000":[` + strings.Repeat("1", 401) + `]}}`, "a number of that size", `{"a":1,"a\u0000":[` + strings.Repeat("1", 401) + `]}`, `3`},
	} {
		s := compileText([]byte(c.schema))
		if s == nil {
			t.Errorf("%s: does not compile", c.schema)
			continue
		}
		if s.quick != nil || s.lacks != c.lacks {
			t.Errorf("%s: nodes lack %q, want %q", c.schema, s.lacks, c.lacks)
		}
		var good scanner
		if good.scan([]byte(c.good), boundless) == nil { // the library reads more than a scanner does
			if err := s.check(context.Background(), &good.tape, 0); err != nil {
				t.Errorf("%s: %s: %v", c.schema, c.good, err)
			}
		}
		if err := s.checkText(t, c.bad); err == nil {
			t.Errorf("%s: %s passes", c.schema, c.bad)
		}
	}
}

// A dialect may make formats more than documentation.
func TestDialects(t *testing.T) {
	for vocabulary, lacks := range map[string]string{"format-assertion": "format", "format-annotation": ""} {
		loaded := texts{}
		for at, schema := range map[string]string{
			"thing:///meta.json": `{"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"thing:///meta.json","$vocabulary":{
				"https://json-schema.org/draft/2020-12/vocab/core":true,"https://json-schema.org/draft/2020-12/vocab/` + vocabulary + `":true}}`,
			"thing:///s.json": `{"$schema":"thing:///meta.json","format":"ipv4","type":"null"}`,
		} {
			loaded[at], _ = jsonschema.UnmarshalJSON(strings.NewReader(schema))
		}
		c, err := compile(loaded, "thing:///s.json", loaded, newPatterns())
		if err != nil {
			t.Fatal(err)
		}
		if c.lacks != lacks || (c.quick == nil) != (lacks != "") {
			t.Errorf("%s: lacks %q, want %q", vocabulary, c.lacks, lacks)
		}
		if err := c.checkText(t, `"127.0.0.1"`); err != nil { // without the vocabulary type says nothing
			t.Errorf("%s: %v", vocabulary, err)
		}
		if err := c.checkText(t, `"localhost"`); (err == nil) != (lacks == "") {
			t.Errorf("%s: %v", vocabulary, err)
		}
	}
}

// What one of the two refuses does not pass, though they should agree.
func TestDisagreementIsARefusal(t *testing.T) {
	all, none := compileText([]byte(`true`)), compileText([]byte(`false`))
	for _, c := range []struct {
		checker *checker
		want    string
	}{
		{all, ""},
		{none, "is not allowed here, remove it"},
		{&checker{quick: none.quick, full: all.full}, "breaks the schema"},
	} {
		var e *Error
		err := c.checker.checkText(t, `{}`)
		if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &e) || e.Code != CodeSchema || e.Error() != c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

// An array too long for comparing all with all is the library's, wherever in the schema it is.
func TestManyItems(t *testing.T) {
	list := func(n int, last string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%d,", i)
		}
		return "[" + b.String() + last + "]"
	}
	for _, n := range []int{manyItems - 2, manyItems - 1, manyItems, 3 * manyItems} {
		for _, c := range []struct {
			schema, last string
			pass         bool
		}{
			{`{"uniqueItems":true}`, "-1", true},
			{`{"uniqueItems":true}`, "1.0", false},
			{`{"not":{"uniqueItems":true}}`, "-1", false},
			{`{"not":{"uniqueItems":true}}`, "1e0", true},
			{`{"if":{"uniqueItems":true},"then":false}`, "-1", false},
		} {
			if err := compileText([]byte(c.schema)).checkText(t, list(n, c.last)); (err == nil) != c.pass {
				t.Errorf("%s, %d items and %s: %v", c.schema, n, c.last, err)
			}
		}
	}
}

// So is an object of too many members for looking each up among all.
func TestManyMembers(t *testing.T) {
	object := func(n, from int) string {
		var members []string
		for i := range n {
			members = append(members, fmt.Sprintf(`"k%d":%d`, (i+from)%n, (i+from)%n))
		}
		return "{" + strings.Join(members, ",") + "}"
	}
	for _, n := range []int{manyMembers - 1, manyMembers, 3 * manyMembers} {
		constant := compileText([]byte(`{"const":` + object(n, 0) + `}`))
		unique := compileText([]byte(`{"uniqueItems":true}`))
		if err := constant.checkText(t, object(n, 5)); err != nil {
			t.Errorf("%d members: %v", n, err)
		}
		if constant.checkText(t, object(n-1, 5)) == nil || constant.checkText(t, object(n+1, 5)) == nil {
			t.Errorf("%d members: one more or less is equal", n)
		}
		if unique.checkText(t, "["+object(n, 0)+","+object(n, 7)+"]") == nil {
			t.Errorf("%d members: equal objects are told apart", n)
		}
		if err := unique.checkText(t, "["+object(n, 0)+","+object(n+1, 7)+"]"); err != nil {
			t.Errorf("%d members: %v", n, err)
		}
	}
}

// The nodes of a Thing's own schemas see the part of the payload that they speak of.
func TestThingCheck(t *testing.T) {
	s := load(t, thermostat)
	for _, c := range []struct{ channel, payload, want string }{
		{"shadow.report", `{"state":{"reported":{"temperature":21.5,"mode":"auto"}}}`, ""},
		{"shadow.report", `{"state":{"reported":{"temperature":null,"mode":"off"}},"version":3}`, ""},
		{"shadow.report", `{"version":1,"\u0073tate":{"reported":{"temperature":99}}}`, "/state/reported/temperature: must be a number from -40 to 85, is 99"},
		{"shadow.report", `{"state":{"reported":{"mode":"on","temperature":null}}}`, `/state/reported/mode: "on" is not allowed, use one of auto, off`},
		{"event", `{"eventType":"highTemperature","severity":"warn","data":{"celsius":45.2}}`, ""},
		{"event", `{"eventType":"highTemperature","severity":"warn","data":{"celsius":"45"}}`, `/data/celsius: must be a number from -40 to 85, is the string "45"`},
		{"event", `{"eventType":"highTemperature","severity":"warn"}`, "/data/celsius: is missing, add it"},
		{"event", `{"eventType":"highTemperature","data":null}`, "/data/celsius: is missing, add it"},
		{"event", `{"eventType":"highTemperature","data":"\u0034\""}`, `/data: must be an object, is the string "4\""`},
		{"event", `{"eventType":"other","data":17}`, ""},
		{"event", `{"data":17}`, ""},
		{"command.request", `{"action":"setTemperature","params":{"value":24}}`, ""},
		{"command.request", `{"action":"setTemperature","params":{"value":5}}`, "/params/value: must be a number above 5, is 5"},
		{"command.request", `{"params":null,"action":"setTemperature"}`, "/params/value: is missing, add a number above 5"},
		{"command.request", `{"action":"\u20ac"}`, "/params: is not allowed here, remove it"},
		{"command.request", `[1]`, ""},
		{"jobs.get", `{`, ""},
	} {
		got := ""
		if err := s.Check(context.Background(), c.channel, []byte(c.payload)); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s %s:\n got %s\nwant %s", c.channel, c.payload, got, c.want)
		}
	}
	if err := (*ThingSchemas)(nil).Check(context.Background(), "event", []byte(`{}`)); err != nil {
		t.Error(err)
	}
	if err := load(t, nil).Check(context.Background(), "shadow.report", []byte(`{`)); err != nil {
		t.Error(err)
	}
}

// Scanners are used again: nothing of one payload may be left in the next.
func TestScannerIsUsedAgain(t *testing.T) {
	var s scanner
	c := compileText([]byte(`{"additionalProperties":{"maxLength":1},"maxProperties":500,"uniqueItems":true}`))
	large := func(last string) string {
		var b strings.Builder
		for i := range 300 {
			fmt.Fprintf(&b, `"k\u0020%d":"\n",`, i)
		}
		return "{" + b.String() + `"` + last + `":""}`
	}
	for range 3 {
		for _, step := range []struct {
			payload     string
			scans, pass bool
		}{
			{large("x"), true, true}, {`{"x":"\u0020","k 1":"b"}`, true, true}, {large("k 299"), false, false},
			{`{"a":{"b`, false, false}, {`[1,2]`, true, true}, {`[1,1]`, true, false}, {`{"x":"\u0020\u0020"}`, true, false},
			{`[` + strings.Repeat("1,", 100) + `1]`, true, false}, {`17`, true, true}, {large("y"), true, true},
		} {
			if err := s.scan([]byte(step.payload), Limits{}); (err == nil) != step.scans {
				t.Fatalf("%.40s: %v", step.payload, err)
			}
			if want := strings.Count(step.payload, `\u`) + strings.Count(step.payload, `\n`); step.scans && want == 0 && len(s.plain) != 0 {
				t.Errorf("%.40s: %q was left behind", step.payload, s.plain)
			}
			if step.scans && (c.check(context.Background(), &s.tape, 0) == nil) != step.pass {
				t.Errorf("%.40s: want pass %v", step.payload, step.pass)
			}
		}
	}
}

// Objects with few names, some, and many: a name that comes again is found wherever it was.
func TestNamesComeOnce(t *testing.T) {
	for _, size := range []int{1, 2, fewNames - 1, fewNames, fewNames + 1, fewNames + 2, 70, 300} {
		for _, shape := range []string{"%d", "name-%d", "%03d-with-the-same-end", "k%d\\n"} {
			var members []string
			for i := range size {
				members = append(members, fmt.Sprintf(`"`+shape+`":{"`+shape+`":[{"a":1}]}`, i, i))
			}
			good := strings.Join(members, ",")
			if err := Guard([]byte("{"+good+"}"), Limits{}); err != nil {
				t.Fatalf("%d names: %v", size, err)
			}
			for i := 0; i < size; i += race.Step() {
				again := fmt.Sprintf(`,"`+shape+`":0`, i)
				if err := Guard([]byte("{"+good+again+"}"), Limits{}); err == nil || !strings.HasSuffix(err.Error(), "is there twice, remove one") {
					t.Fatalf("%d names, %d again: %v", size, i, err)
				}
			}
		}
	}
}

// Not at all, but for what TestGuardDoesNotAllocate says.
func TestCheckDoesNotAllocate(t *testing.T) {
	c := catalog(t)
	thing := load(t, benchThing)
	for name, payload := range map[string][]byte{"shadow.report": []byte(report300), "event": payloadOf("event", 300), "command.request": payloadOf("command.request", 300)} {
		if n := testing.AllocsPerRun(200, func() {
			if err := c.Check(context.Background(), name, payload); err != nil {
				t.Fatal(err)
			}
		}); n > 1 {
			t.Errorf("%s: %v allocations", name, n)
		}
		if n := testing.AllocsPerRun(200, func() {
			if err := thing.Check(context.Background(), name, payload); err != nil {
				t.Fatal(err)
			}
		}); n > 1 {
			t.Errorf("%s of a Thing: %v allocations", name, n)
		}
	}
}
