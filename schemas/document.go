package schemas

import (
	"bytes"
	"errors"
	"net/url"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// document asks the jsonschema library about a decoded payload.
type document struct {
	schema *jsonschema.Schema
	texts  texts
}

// check returns nil or an *Error. The payload has passed Guard.
func (d *document) check(payload []byte) error {
	// Numbers stay as they were written: json.Number, not float64.
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if err != nil {
		return &Error{Code: CodeJSON, Details: []Detail{{Message: "is no JSON: " + err.Error()}}}
	}
	var broken *jsonschema.ValidationError
	if errors.As(d.schema.Validate(value), &broken) {
		details := explain(broken, value, d.texts)
		if len(details) == 0 { // never pass what the library did not
			details = []Detail{{Message: "breaks the schema"}}
		}
		return refuse(details)
	}
	return nil
}

// texts are decoded schema files by URL, for messages that say what was expected.
type texts map[string]any

// keywords finds a schema object by its location, "file#/properties/state". It is nil when there is
// none, or when the schema is true or false.
func (t texts) keywords(location string) keywords {
	file, fragment, _ := strings.Cut(location, "#")
	fragment, err := url.PathUnescape(fragment)
	if err != nil {
		return nil
	}
	k, _ := lookup(t[file], strings.Split(fragment, "/")[1:]).(map[string]any)
	return k
}

// lookup follows the tokens of a JSON Pointer.
func lookup(v any, tokens []string) any {
	for _, token := range tokens {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		v = child(v, token)
	}
	return v
}

// pinned replaces propertyNames in a compiled schema. The library's own reports the place of a bad
// name in a slice that it goes on writing to, so that the pointer may end up somewhere else.
type pinned struct{ names *jsonschema.Schema }

func (p pinned) Validate(ctx *jsonschema.ValidatorContext, v any) {
	object, _ := v.(map[string]any)
	for name := range object {
		var broken *jsonschema.ValidationError
		if errors.As(p.names.Validate(name), &broken) {
			ctx.AddErrors(broken.Causes, &kind.PropertyNames{Property: name})
		}
	}
}

// pinNames applies pinned to a schema and everything below it.
func pinNames(s *jsonschema.Schema, seen map[*jsonschema.Schema]bool) {
	if s == nil || seen[s] {
		return
	}
	seen[s] = true
	if s.PropertyNames != nil {
		pinNames(s.PropertyNames, seen)
		s.Extensions = append(s.Extensions, pinned{s.PropertyNames})
		s.PropertyNames = nil
	}
	below := []*jsonschema.Schema{s.Ref, s.RecursiveRef, s.Not, s.If, s.Then, s.Else, s.UnevaluatedProperties,
		s.Contains, s.Items2020, s.UnevaluatedItems, s.ContentSchema}
	if s.DynamicRef != nil {
		below = append(below, s.DynamicRef.Ref)
	}
	for _, list := range [][]*jsonschema.Schema{s.AllOf, s.AnyOf, s.OneOf, s.PrefixItems} {
		below = append(below, list...)
	}
	for _, named := range []map[string]*jsonschema.Schema{s.Properties, s.DependentSchemas} {
		for _, sub := range named {
			below = append(below, sub)
		}
	}
	for _, sub := range s.PatternProperties {
		below = append(below, sub)
	}
	// Where drafts differ, the library keeps any.
	for _, dependency := range s.Dependencies {
		below = append(below, subschemas(dependency)...)
	}
	for _, either := range []any{s.AdditionalProperties, s.Items, s.AdditionalItems} {
		below = append(below, subschemas(either)...)
	}
	for _, sub := range below {
		pinNames(sub, seen)
	}
}

func subschemas(v any) []*jsonschema.Schema {
	switch v := v.(type) {
	case *jsonschema.Schema:
		return []*jsonschema.Schema{v}
	case []*jsonschema.Schema:
		return v
	}
	return nil
}
