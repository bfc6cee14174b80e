package schemas

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"fleetbridge/mapping"
)

// ThingType is what a Fleets Thing Type says of its Things: which values their properties have, which events they
// send, and which commands they take. It is no JSON Schema, but becomes some. What it leaves open passes.
type ThingType struct {
	Name, Version string
	// Notes tell, each at a JSON Pointer, what is not understood and so not checked.
	Notes []Detail

	properties map[string]declared
	severities map[string][]string // of an event, by its type
	events     map[string][]fields // what its data may be: one for each severity, in the same order
	inputs     map[string]fields   // of a command, by its action
	outputs    map[string]fields

	problems []Detail
}

// fields are the members of an object, by name.
type fields map[string]declared

// declared is one value of a Thing Type: as JSON Schema, and what only people can read.
type declared struct {
	schema   map[string]any
	unit     string
	readOnly bool // it may not be desired
}

// severities are those that Fleets knows.
var severities = []string{"info", "warn", "error"}

// The members of a Thing Type, and those of its schema. Sections but for properties, events and commands say nothing of
// payloads.
var (
	headers  = []string{"name", "version", "description", "tags", "id", "createdAt", "updatedAt"}
	sections = []string{"properties", "events", "commands", "connectivity", "security", "lifecycle", "edge", "relations"}
)

// maxUnit is how many bytes of a unit are kept: each error about the value has it.
const maxUnit = 60

// typeNames are what Thing Types call the types of JSON Schema.
var typeNames = map[string]string{
	"string": "string", "int": "integer", "integer": "integer", "float": "number", "number": "number", "double": "number",
	"boolean": "boolean", "bool": "boolean", "enum": "", "object": "object", "array": "array",
}

// ReadThingType reads a Thing Type as JSON: the whole of it, as Fleets exports it, or what stands under "schema". The
// error is an *Error with every problem.
func ReadThingType(data []byte) (*ThingType, error) {
	if err := Guard(data, Limits{MaxBytes: MaxFileBytes}); err != nil {
		return nil, err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, oneDetail("", err.Error()) // Guard found it good
	}
	t := &ThingType{properties: map[string]declared{}, severities: map[string][]string{}, events: map[string][]fields{},
		inputs: map[string]fields{}, outputs: map[string]fields{}}
	whole := t.object("", value)
	at, body := "", whole
	known := slices.Concat(headers, sections)
	if inner, ok := whole["schema"]; ok {
		at = "/schema"
		body = t.object(at, inner)
		t.strangers(at, body, sections...)
		known = append(slices.Clone(headers), "schema")
	}
	t.strangers("", whole, known...)
	t.Name, t.Version = t.text("/name", whole["name"]), t.text("/version", whole["version"])
	t.properties = t.fields(at+"/properties", body["properties"])
	t.readEvents(at+"/events", body["events"])
	t.readCommands(at+"/commands", body["commands"])
	if len(t.problems) == 0 && body["properties"] == nil && body["events"] == nil && body["commands"] == nil {
		t.problem(at, "has no properties, events or commands; is it a Thing Type?")
	}
	byPointer := func(a, b Detail) int { return strings.Compare(a.Pointer, b.Pointer) }
	if slices.SortFunc(t.problems, byPointer); len(t.problems) > 0 {
		return nil, &Error{Code: CodeSchema, Details: t.problems}
	}
	slices.SortFunc(t.Notes, byPointer)
	return t, nil
}

func oneDetail(pointer, message string) *Error {
	return &Error{Code: CodeSchema, Details: []Detail{{pointer, message}}}
}

func (t *ThingType) problem(pointer, format string, args ...any) {
	if len(t.problems) < maxDetails {
		t.problems = append(t.problems, Detail{pointer, fmt.Sprintf(format, args...)})
	}
}

func (t *ThingType) note(pointer, format string, args ...any) {
	if len(t.Notes) < maxDetails {
		t.Notes = append(t.Notes, Detail{pointer, fmt.Sprintf(format, args...)})
	}
}

// object is a value that must be an object; one that is missing is empty.
func (t *ThingType) object(pointer string, v any) map[string]any {
	if v == nil {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		t.problem(pointer, "must be an object")
	}
	return m
}

// text is a value that should be a string.
func (t *ThingType) text(pointer string, v any) string {
	text, ok := v.(string)
	if v != nil && !ok {
		t.note(pointer, "is no text, and is left out")
	}
	return text
}

func (t *ThingType) fields(pointer string, v any) fields {
	out := fields{}
	for name, d := range t.object(pointer, v) {
		out[name] = t.declared(pointer+"/"+pointerEscaper.Replace(name), d)
	}
	return out
}

// declared reads one value's declaration.
func (t *ThingType) declared(pointer string, v any) declared {
	out := declared{schema: map[string]any{}}
	writable, told := true, false
	declaration := t.object(pointer, v)
	is, checked := t.typeOf(pointer, declaration)
	if is != "" {
		out.schema["type"] = is
	}
	for member, v := range declaration {
		at := pointer + "/" + pointerEscaper.Replace(member)
		switch member {
		case "type":
		case "min", "minimum", "max", "maximum":
			keyword := member[:3] + "imum"
			switch _, isNumber := v.(json.Number); {
			case !isNumber:
				t.problem(at, "must be a number")
			case member != keyword && declaration[keyword] != nil:
				t.problem(at, "is given beside %s, keep one of them", keyword)
			case checked && is != "" && is != "integer" && is != "number":
				t.note(at, "changes nothing here: only numbers have a range")
			default:
				out.schema[keyword] = v
			}
		case "values", "enum":
			list, ok := v.([]any)
			switch {
			case !ok || len(list) == 0:
				t.problem(at, "must be a list of the values that are allowed")
			case member == "enum" && declaration["values"] != nil:
				t.problem(at, "is given beside values, keep one of them")
			case is != "" && !slices.ContainsFunc(list, func(v any) bool { return isOf(is, v) }):
				t.problem(at, "has no value of the type, which is %s", is)
			default:
				out.schema["enum"] = v
			}
		case "unit":
			out.unit = shorten(t.text(at, v), maxUnit)
		case "writable":
			if writable, told = v.(bool); !told {
				t.problem(at, "must be true or false")
			}
		case "description", "name", "title", "default", "displayName":
		default:
			t.note(at, "is not known, and changes nothing here")
		}
	}
	t.checkRange(pointer, is, out.schema)
	if !checked {
		out.schema = map[string]any{}
	}
	out.readOnly = told && !writable
	return out
}

// typeOf is the JSON Schema type of a declaration; empty: it has none. checked is false when the type is not known.
func (t *ThingType) typeOf(pointer string, declaration map[string]any) (is string, checked bool) {
	v, there := declaration["type"]
	if !there {
		return "", true
	}
	name, _ := v.(string)
	is, known := typeNames[strings.ToLower(name)]
	if !known {
		text, _ := json.Marshal(v)
		t.note(pointer+"/type", "the type %s is not known, so the value is not checked", shorten(string(text), maxPart))
	}
	if strings.EqualFold(name, "enum") && declaration["values"] == nil && declaration["enum"] == nil {
		t.problem(pointer, "is an enum without values, add them")
	}
	return is, known
}

// isOf reports whether a value of an enum can be of a JSON Schema type.
func isOf(is string, v any) bool {
	switch v := v.(type) {
	case string:
		return is == "string"
	case bool:
		return is == "boolean"
	case map[string]any:
		return is == "object"
	case []any:
		return is == "array"
	case json.Number:
		n, ok := new(big.Rat).SetString(v.String())
		return is == "number" || is == "integer" && ok && n.IsInt()
	}
	return false
}

// checkRange refuses a range that nothing is in. Guard has bounded the exponents.
func (t *ThingType) checkRange(pointer, is string, schema map[string]any) {
	least, ok := schema["minimum"].(json.Number)
	most, both := schema["maximum"].(json.Number)
	if !ok || !both {
		return
	}
	from, _ := new(big.Rat).SetString(least.String())
	to, _ := new(big.Rat).SetString(most.String())
	if from == nil || to == nil {
		return
	}
	switch {
	case from.Cmp(to) > 0:
		t.problem(pointer, "has a least value of %s and a greatest of %s, so nothing is allowed; swap them", shorten(least.String(), maxPart), shorten(most.String(), maxPart))
	case is == "integer" && floor(to).Cmp(new(big.Int).Neg(floor(from.Neg(from)))) < 0:
		t.problem(pointer, "has no whole number from %s to %s, so nothing is allowed; widen the range", shorten(least.String(), maxPart), shorten(most.String(), maxPart))
	}
}

// floor is the greatest whole number that is not above.
func floor(r *big.Rat) *big.Int { return new(big.Int).Div(r.Num(), r.Denom()) }

func (t *ThingType) readEvents(pointer string, v any) {
	all := t.object(pointer, v)
	for _, severity := range slices.Sorted(maps.Keys(all)) { // so that what becomes of it is always the same
		events := all[severity]
		at := pointer + "/" + pointerEscaper.Replace(severity)
		if !slices.Contains(severities, severity) {
			t.problem(at, "is no severity, use one of %s", strings.Join(severities, ", "))
			continue
		}
		for name, event := range t.object(at, events) {
			here := at + "/" + pointerEscaper.Replace(name)
			if err := mapping.CheckID(name); err != nil {
				t.problem(here, "%s", err)
				continue
			}
			m := t.object(here, event)
			t.severities[name] = append(t.severities[name], severity)
			t.events[name] = append(t.events[name], t.fields(here+"/payload", m["payload"]))
			t.strangers(here, m, "payload", "description")
		}
	}
}

func (t *ThingType) readCommands(pointer string, v any) {
	for action, command := range t.object(pointer, v) {
		here := pointer + "/" + pointerEscaper.Replace(action)
		if action == "" {
			t.problem(here, "a command needs a name")
			continue
		}
		m := t.object(here, command)
		t.inputs[action] = t.fields(here+"/input", m["input"])
		t.outputs[action] = t.fields(here+"/output", m["output"])
		t.strangers(here, m, "input", "output", "type", "timeoutMs", "description")
	}
}

// strangers notes the members that are not known.
func (t *ThingType) strangers(pointer string, m map[string]any, known ...string) {
	for member := range m {
		if !slices.Contains(known, member) {
			t.note(pointer+"/"+pointerEscaper.Replace(member), "is not known, and changes nothing here")
		}
	}
}

// Counts tells how many properties, events and commands there are.
func (t *ThingType) Counts() (properties, events, commands int) {
	return len(t.properties), len(t.events), len(t.inputs)
}
