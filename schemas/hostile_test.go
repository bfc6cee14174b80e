package schemas

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"fleetbridge/internal/race"
)

// hostile are schemas and payloads that ask for more than they look like.
var hostile = []struct {
	name, schema, payload string
	// want is what the nodes' answer begins with, alone what the library's does when nobody helps it; "" is a
	// pass. A * is any refusal that is no overrun.
	want, alone string
}{
	{"alternatives, depth 16", tree, nest(`{"op":"x","arg":`, 16, "0"), "*", overrun},
	{"alternatives, depth 18", tree, nest(`{"op":"x","arg":`, 18, "0"), "*", overrun},
	{"alternatives, depth 55", tree, nest(`{"op":"x","arg":`, 55, "0"), "*", overrun},
	{"alternatives that fit at last", tree, nest(`{"arg":`, 55, "0,\"op\":\"not\""), overrun, overrun},
	{"oneOf within oneOf", `{"$defs":{"n":{"oneOf":[{"items":{"$ref":"#/$defs/n"}},{"items":{"$ref":"#/$defs/n"},"minItems":1},{"type":"null"}]}},"$ref":"#/$defs/n"}`,
		nest("[", 60, "1"), overrun, overrun},
	{"not within not", `{"$defs":{"n":{"not":{"not":{"allOf":[{"items":{"$ref":"#/$defs/n"}},{"items":{"$ref":"#/$defs/n"}}]}}}},"$ref":"#/$defs/n"}`,
		nest("[", 60, "1"), overrun, overrun},
	{"if, then and else", `{"$defs":{"n":{"if":{"items":{"$ref":"#/$defs/n"}},"then":{"items":{"$ref":"#/$defs/n"}},"else":false}},"$ref":"#/$defs/n"}`,
		nest("[", 60, "1"), overrun, overrun},
	{"28 doubled references", doubled(28, "allOf"), `1`, overrun, overrun},
	{"28 doubled references under anyOf", doubled(28, "anyOf"), `1`, overrun, overrun},
	{"30 doubled dependentSchemas", dependents(30), `{"a":1,"b":1}`, overrun, overrun},
	{"a large enum and a large array", `{"items":{"enum":[` + list(3000, `"word-%d"`) + `]}}`, `[` + list(9000, `"word-2999"`) + `]`, "", ""},
	{"a large enum and a wrong array", `{"items":{"enum":[` + list(3000, `"word-%d"`) + `]}}`, `[` + list(9000, `"ward-%d"`) + `]`, "*", "*"},
	{"a large enum of objects", `{"items":{"enum":[` + list(3000, `{"a":%d}`) + `]}}`, `[` + list(9000, `{"a":9%d}`) + `]`, "*", "*"},
	{"a repeated pattern", `{"pattern":"(a{1,1000}b)"}`, `"` + strings.Repeat("a", 120_000) + `"`, overrun, overrun},
	{"many patterns and many names", `{"patternProperties":{` + list(500, `"^(x|y)*%d$":true`) + `}}`, `{` + list(8000, `"xyxyxy%d":1`) + `}`, overrun, overrun},
	{"a pattern for names", `{"propertyNames":{"pattern":"(a{1,900}b)"}}`, `{"` + strings.Repeat("a", 100_000) + `":1}`, overrun, overrun},
	{"unique numbers", `{"uniqueItems":true}`, `[` + list(20_000, `%d`) + `]`, "", ""},
	{"unique huge numbers", `{"uniqueItems":true}`, `[` + list(5000, `1.%d1e-380`) + `]`, "", ""},
	{"unique, alike to a hash", `{"uniqueItems":true}`, `[` + list(2000, `["a%[1]d\u0004","b"],["a%[1]d","\u0004b"]`) + `]`, "", ""},
	{"equal at last", `{"items":{"const":[` + list(2000, "%d") + `]}}`, `[` + list(13, `[`+list(1999, "%d")+`,0]`) + `]`, "*", "*"},
	{"contains, of each of many", `{"allOf":[` + list(300, `{"contains":{"const":-%d}}`) + `]}`, `[` + list(20_000, `%d`) + `]`, "*", overrun},
	{"minContains", `{"contains":{"anyOf":[` + list(300, `{"const":"%d"}`) + `]},"minContains":2}`, `[` + list(20_000, `1`) + `]`, overrun, overrun},
	{"prefixItems and references", `{"$defs":{"n":{"prefixItems":[{"type":"integer"}],"items":{"anyOf":[{"$ref":"#/$defs/n"},{"$ref":"#/$defs/n"}]}}},"$ref":"#/$defs/n"}`,
		nest("[1,", 60, `["x"]`), overrun, overrun},
	{"large numbers", `{"items":{"multipleOf":1e-400,"minimum":1e-400}}`, `[` + list(20_000, `1e399`) + `]`, "", overrun},
	{"unevaluatedProperties over many branches", `{"anyOf":[` + list(500, `{"required":["none%d"]}`) + `],"unevaluatedProperties":false}`, `{` + list(8000, `"k%d":1`) + `}`, overrun, overrun},
	{"unevaluatedItems, nested", `{"$defs":{"n":{"allOf":[{"prefixItems":[{"$ref":"#/$defs/n"}]},{"prefixItems":[{"$ref":"#/$defs/n"},true]}],"unevaluatedItems":false}},"$ref":"#/$defs/n"}`,
		nest("[", 60, "1"), overrun, overrun},
	{"$dynamicRef, doubled", `{"$dynamicAnchor":"n","allOf":[{"items":{"$dynamicRef":"#n"}},{"items":{"$dynamicRef":"#n"}}]}`, nest("[", 60, "1"), overrun, overrun},
	{"$dynamicRef to where nothing else leads", `{"$id":"http://a/","$ref":"list","$defs":{"over":{"$dynamicAnchor":"t","allOf":[{"items":{"$ref":"#/$defs/over"}},{"items":{"$ref":"#/$defs/over"}}]},
		"list":{"$id":"list","$dynamicRef":"#t","$defs":{"t":{"$dynamicAnchor":"t"}}}}}`, nest("[", 60, "1"), overrun, overrun},
	{"the format regex", `{"$schema":"http://json-schema.org/draft-07/schema#","items":{"format":"regex"}}`, `[` + list(300, `"((a{100}){10})%d"`) + `]`, "", ""},
	{"draft-07", `{"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"n":{"anyOf":[{"items":{"$ref":"#/definitions/n"}},{"items":{"$ref":"#/definitions/n"}}]}},"allOf":[{"$ref":"#/definitions/n"}],"items":{"items":{"items":{"type":"string"}}}}`,
		nest("[", 60, "1"), "*", "*"},
	{"a circle", `{"anyOf":[{"$ref":"#"},{"$ref":"#"}]}`, `1`, "*", "*"},
	{"names of no use", `{"type":"object","additionalProperties":false}`, `{` + list(8000, `"\u0001%d":1`) + `}`, "*", "*"},
	{"null under bad names", `{"propertyNames":{"maxLength":1}}`, `{` + list(8000, `"k%d":null`) + `}`, "*", "*"},
	{"a long name over many wrong values", `{"additionalProperties":{"items":{"type":"null"}}}`, `{"` + strings.Repeat("n", 60_000) + `":[` + list(12_000, "%d") + `]}`, "*", "*"},
	{"many required", `{"items":{"required":[` + list(2000, `"r%d"`) + `]}}`, `[` + list(10_000, `{}`) + `]`, "*", overrun},
}

const overrun = "takes more steps to check"

const tree = `{"$defs":{"node":{"anyOf":[{"properties":{"op":{"const":"and"},"arg":{"$ref":"#/$defs/node"}},"required":["op"]},
	{"properties":{"op":{"const":"not"},"arg":{"$ref":"#/$defs/node"}},"required":["op"]},{"type":"number"}]}},"$ref":"#/$defs/node"}`

// nest puts depth containers around a value.
func nest(open string, depth int, inside string) string {
	end := "]"
	if strings.HasPrefix(open, "{") {
		end = "}"
	}
	return strings.Repeat(open, depth) + inside + strings.Repeat(end, depth)
}

// list writes n items, each with its number.
func list(n int, format string) string {
	if !strings.Contains(format, "%") {
		return strings.Repeat(format+",", n-1) + format
	}
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// doubled is a chain of schemas that each refer to the next one twice. The last one refuses.
func doubled(n int, keyword string) string {
	var b strings.Builder
	last := `{"type":"string"}`
	if keyword == "allOf" {
		last = `{"type":"integer"}`
	}
	for i := range n {
		fmt.Fprintf(&b, `"n%d":{"%s":[{"$ref":"#/$defs/n%d"},{"$ref":"#/$defs/n%[3]d"}]},`, i, keyword, i+1)
	}
	return fmt.Sprintf(`{"$ref":"#/$defs/n0","$defs":{%s"n%d":%s}}`, b.String(), n, last)
}

func dependents(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"n%d":{"dependentSchemas":{"a":{"$ref":"#/$defs/n%d"},"b":{"$ref":"#/$defs/n%[2]d"}}},`, i, i+1)
	}
	return fmt.Sprintf(`{"$ref":"#/$defs/n0","$defs":{%s"n%d":true}}`, b.String(), n)
}

// most is how many bytes a check may allocate, all together: what it holds at one time is less.
const most = 128 << 20

// Whatever a schema asks for, a check ends within its budget, and so does its explanation.
func TestHostileSchemas(t *testing.T) {
	for i, h := range hostile {
		if race.Enabled && i%(3*race.Step()) != 0 {
			continue
		}
		t.Run(h.name, func(t *testing.T) {
			c := compileText([]byte(h.schema))
			if c == nil {
				t.Fatal("no schema")
			}
			payload := []byte(h.payload)
			if c.quick != nil {
				ends(t, "nodes", payload, h.want, func(ctx context.Context) error {
					var s scanner
					if err := s.scan(payload, Limits{}); err != nil {
						t.Fatal(err)
					}
					return c.check(ctx, &s.tape, 0)
				})
			}
			ends(t, "library", payload, h.alone, func(ctx context.Context) error { return c.full.check(ctx, payload, librarySteps) })
		})
	}
}

// ends checks a check: its answer, what it allocates, how often it looks at its context, and that it ends with it.
func ends(t *testing.T, who string, payload []byte, want string, check func(context.Context) error) {
	t.Helper()
	var before, after runtime.MemStats
	ctx := &countedContext{Context: context.Background()}
	runtime.ReadMemStats(&before)
	err := check(ctx)
	runtime.ReadMemStats(&after)
	allocated := after.TotalAlloc - before.TotalAlloc
	t.Logf("%s: %d looks at the context, %d KiB, %.100v", who, ctx.looks, allocated>>10, err)
	var e *Error
	switch {
	case err != nil && !errors.As(err, &e):
		t.Fatalf("%s: %v", who, err)
	case want == "" && err != nil, want != "" && err == nil, want == "*" && strings.HasPrefix(err.Error(), overrun),
		want != "*" && want != "" && (!e.Overrun || !strings.HasPrefix(err.Error(), want)):
		t.Errorf("%s: got %.200v, want %q", who, err, want)
	}
	if allocated > most {
		t.Errorf("%s: %d MiB", who, allocated>>20)
	}
	if most := 3 + (baseSteps+stepsPerByte*len(payload)+librarySteps+explainSteps)/stepsAtOnce; ctx.looks > most {
		t.Errorf("%s: %d looks at the context, at most %d", who, ctx.looks, most)
	}
	if e != nil {
		size := 0
		for _, d := range e.Details {
			size += len(d.Pointer) + len(d.Message)
		}
		if size > maxDetailBytes+maxMessage+maxPointer || len(e.Details) > maxDetails+1 {
			t.Errorf("%s: %d details of %d bytes", who, len(e.Details), size)
		}
	}
	if ctx.looks < 2 {
		return
	}
	short := &countedContext{Context: context.Background(), ends: ctx.looks / 2}
	if err := check(short); !errors.Is(err, context.Canceled) {
		t.Errorf("%s: a context that ends in the middle: %v", who, err)
	}
	if short.looks > short.ends+5 {
		t.Errorf("%s: goes on after its context: %d looks, ended at %d", who, short.looks, short.ends)
	}
}

// countedContext ends after so many looks at it.
type countedContext struct {
	context.Context
	looks, ends int
}

func (c *countedContext) Err() error {
	if c.looks++; c.ends > 0 && c.looks > c.ends {
		return context.Canceled
	}
	return nil
}
