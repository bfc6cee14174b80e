package schemas

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
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
	events     map[string][]fields // what its data may be: one for each severity
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
	if inner, ok := whole["schema"]; ok {
		at = "/schema"
		body = t.object(at, inner)
		t.Name, _ = whole["name"].(string)
		t.Version, _ = whole["version"].(string)
	}
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
	if declaration["type"] == "enum" && declaration["values"] == nil && declaration["enum"] == nil {
		t.problem(pointer, "is an enum without values, add them")
	}
	for member, v := range declaration {
		at := pointer + "/" + pointerEscaper.Replace(member)
		switch member {
		case "type":
			name, _ := v.(string)
			is, known := typeNames[strings.ToLower(name)]
			switch {
			case !known:
				t.note(at, "the type %q is not known, so the value is not checked", shorten(fmt.Sprint(v), maxPart))
			case is != "":
				out.schema["type"] = is
			}
		case "min", "minimum", "max", "maximum":
			if _, ok := v.(json.Number); !ok {
				t.problem(at, "must be a number")
				break
			}
			out.schema[member[:3]+"imum"] = v
		case "values", "enum":
			if list, ok := v.([]any); !ok || len(list) == 0 {
				t.problem(at, "must be a list of the values that are allowed")
				break
			}
			out.schema["enum"] = v
		case "unit":
			unit, _ := v.(string)
			out.unit = shorten(unit, maxUnit)
		case "writable":
			if writable, told = v.(bool); !told {
				t.problem(at, "must be true or false")
			}
		case "description", "name", "title", "default", "displayName":
		default:
			t.note(at, "is not known, and changes nothing here")
		}
	}
	out.readOnly = told && !writable
	return out
}

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
