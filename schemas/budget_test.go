package schemas

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"fleetbridge/internal/race"
)

// untouched is a schema as the library compiles it, without a meter.
func untouched(t testing.TB, schema []byte) *jsonschema.Schema {
	t.Helper()
	text, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(texts{"thing:///s.json": text})
	s, err := c.Compile("thing:///s.json")
	if err != nil {
		t.Fatalf("%s: %v", schema, err)
	}
	return s
}

// more adds to a generated schema what nodes lack.
func (g grammar) more(s map[string]any) {
	switch g.roll(6) {
	case 0:
		s["unevaluatedProperties"] = g.sub(1)
	case 1:
		s["unevaluatedItems"] = g.sub(1)
	case 2:
		s["$dynamicAnchor"], s["additionalProperties"] = "n", map[string]any{"$dynamicRef": "#n"}
	case 3:
		s["$schema"], s["definitions"] = "http://json-schema.org/draft-07/schema#", s["$defs"]
	case 4:
		s["$schema"] = "https://json-schema.org/draft/2019-09/schema"
		s["contains"], s["items"] = g.sub(1), []any{g.sub(1)}
	}
}

// within checks that a check of so few steps ends within them, and says what the library says or that it
// can't tell.
func within(t testing.TB, c *checker, plain *jsonschema.Schema, payload []byte, steps int) (enough bool) {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if err != nil {
		return true
	}
	want := plain.Validate(value)
	err = c.full.check(context.Background(), payload, steps)
	var e *Error
	if errors.As(err, &e) && e.Overrun {
		return false
	}
	if (err == nil) != (want == nil) {
		t.Fatalf("payload %s: %v, the library without a meter: %v", payload, err, want)
	}
	var s scanner
	if c.quick == nil || s.scan(payload, Limits{}) != nil {
		return true
	}
	s.work = newWork(steps)
	if valid := c.quick.valid(&s.tape, 0); s.over() || s.unsure {
		return s.unsure
	} else if valid != (want == nil) {
		t.Fatalf("payload %s: nodes %v, the library without a meter: %v", payload, valid, want)
	}
	return true
}

// Whatever the schema, a check with little to spend ends with it, and one with enough agrees with the library.
func TestBudgetHolds(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 3))
	told, over := 0, 0
	for range race.Part(700) {
		b := make([]byte, 20+r.IntN(300))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if enough, ok := budgeted(t, b, uint16(r.Uint32())); ok && enough {
			told++
		} else if ok {
			over++
		}
	}
	if t.Logf("%d told, %d over", told, over); told < race.Part(50) || over < race.Part(50) {
		t.Error("too few that tell something")
	}
}

func FuzzBudget(f *testing.F) {
	for i := range 20 {
		f.Add(bytes.Repeat([]byte{byte(i), 7, byte(3 * i)}, 30), uint16(100*i))
	}
	f.Fuzz(func(t *testing.T, entropy []byte, steps uint16) {
		if len(entropy) < 1000 {
			budgeted(t, entropy, steps)
		}
	})
}

// budgeted makes a schema and a payload of entropy. ok is false when there is none.
func budgeted(t testing.TB, entropy []byte, steps uint16) (enough, ok bool) {
	t.Helper()
	g := grammar{newDice(entropy)}
	s := g.schema()
	g.more(s)
	schema, err := json.Marshal(s)
	if err != nil {
		return false, false
	}
	c := compileText(schema)
	if c == nil {
		return false, false
	}
	plain := untouched(t, schema)
	decoded, _ := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	payload := []byte(g.fit(decoded.(map[string]any), decoded, 4))
	if Guard(payload, Limits{}) != nil {
		return false, false
	}
	if !within(t, c, plain, payload, librarySteps) && len(payload) < 10_000 {
		t.Logf("%s: more than %d steps for %s", schema, librarySteps, payload)
	}
	return within(t, c, plain, payload, int(steps)%500), true
}

// What a directory may bring is bounded, and each bound says where and what.
func TestThingIsBounded(t *testing.T) {
	chain := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"n%d":{"$ref":"#/$defs/n%d"},`, i, i+1)
		}
		return fmt.Sprintf(`{"$ref":"#/$defs/n0","$defs":{%s"n%d":true}}`, b.String(), n)
	}
	many := map[string]string{}
	for i := range maxFolderFiles + 1 {
		many[fmt.Sprintf("events/e%d.schema.json", i)] = `{}`
	}
	shared := map[string]string{"common.json": `{"$defs":{` + list(1000, `"d%d":{"type":"null"}`) + `}}`}
	for i := range 70 {
		shared[fmt.Sprintf("events/e%d.schema.json", i)] = `{"$ref":"../common.json#/$defs/d1"}`
	}
	wrong := map[string]string{}
	for i := range maxProblems + 20 {
		wrong[fmt.Sprintf("events/e%d.schema.json", i)] = `{"type":17}`
	}
	one := func(schema string) map[string]string { return map[string]string{"reported.schema.json": schema} }
	cases := map[string]struct {
		files map[string]string
		want  string // "" is none
	}{
		"a repeat":             {one("{\n\"pattern\":\"(a{1,1000}b)\"}"), ""},
		"a repeated repeat":    {one("{\n\"pattern\":\"((a{1,100}b){1,10}c\\\\pL{300}){3}\"}"), "reported.schema.json:2: /pattern: \"((a{1,100}b){1,10}c"},
		"patterns of names":    {one(`{"patternProperties":{"(abcdefghij){900}k{900}l{900}":true}}`), "too large a regular expression"},
		"many large patterns":  {one(`{"anyOf":[` + list(120, `{"pattern":"(a{1,900})%d"}`) + `]}`), "is one too many"},
		"a short chain":        {one(chain(maxChain - 2)), ""},
		"a long chain":         {one(chain(maxChain)), "within each other"},
		"a long circle":        {one(strings.Replace(chain(maxChain+1), fmt.Sprintf(`"n%d":true`, maxChain+1), fmt.Sprintf(`"n%d":{"$ref":"#"}`, maxChain+1), 1)), "within each other"},
		"many parts":           {one(`{"properties":{` + list(maxOne.parts+1, `"p%d":{}`) + `}}`), "objects, true and false, at most"},
		"many values":          {one(`{"enum":[` + list(maxOne.values+1, `%d`) + `]}`), "values, at most"},
		"a large enum":         {one(`{"enum":[` + list(3000, `"word-%d"`) + `]}`), ""},
		"a long name":          {one("{\"properties\":{\"a\":\n{\"properties\":{\"" + strings.Repeat("n", maxPart) + "\":{}}}}}"), "reported.schema.json:2: /properties/a/properties: has members whose JSON Pointers are longer"},
		"long names over many": {one(`{"properties":{"` + strings.Repeat("n", 1900) + `":{"anyOf":[` + list(1500, `{}`) + `]}}}`), "bytes of names above them"},
		"many files":           {many, "is one too many"},
		"much that is shared":  {shared, "each with all that it refers to"},
		"many problems":        {wrong, "more than 100 problems"},
	}
	if race.Enabled {
		delete(cases, "much that is shared")
	}
	for name, c := range cases {
		_, err := catalog(t).LoadThing(write(t, c.files))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %.300v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %.300v, want %s", name, err, c.want)
		case err != nil && strings.Count(err.Error(), "\n") > maxProblems:
			t.Errorf("%s: %d lines", name, strings.Count(err.Error(), "\n"))
		}
	}
}
