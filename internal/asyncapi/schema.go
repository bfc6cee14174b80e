package asyncapi

import "fmt"

// Tools for AsyncAPI understand JSON Schema draft 7, of which AsyncAPI's own schemas are a superset. The
// bridge's schemas are draft 2020-12, in words that nearly all mean the same in both.

// translations are the words that are spelled otherwise in draft 7.
var translations = map[string]string{"$defs": "definitions", "dependentRequired": "dependencies"}

// dropped belongs to a schema that stands alone.
var dropped = map[string]bool{"$schema": true, "$id": true, "$comment": true}

// same are the words of both drafts that the schemas may use. A word that is in none of these lists is an
// error, lest the document says something else than the bridge checks.
var same = map[string]bool{
	"title": true, "description": true, "type": true, "enum": true, "const": true, "default": true, "examples": true, "format": true,
	"properties": true, "required": true, "additionalProperties": true, "patternProperties": true, "propertyNames": true,
	"minProperties": true, "maxProperties": true, "items": true, "minItems": true, "maxItems": true, "uniqueItems": true,
	"minLength": true, "maxLength": true, "pattern": true, "minimum": true, "maximum": true, "exclusiveMinimum": true,
	"exclusiveMaximum": true, "multipleOf": true, "allOf": true, "anyOf": true, "oneOf": true, "not": true, "if": true, "then": true, "else": true,
}

// maps are the words whose members are names, not words.
var maps = map[string]bool{"properties": true, "patternProperties": true, "$defs": true, "dependentRequired": true}

// values are the words whose value is data.
var values = map[string]bool{"enum": true, "const": true, "default": true, "examples": true, "required": true, "type": true}

// draft7 translates a schema.
func draft7(v any) (any, error) {
	schema, ok := v.(object)
	if !ok {
		return v, nil // true, false
	}
	out := object{}
	for _, m := range schema {
		word := m.key
		switch {
		case dropped[word]:
			continue
		case translations[word] != "":
			word = translations[word]
		case !same[word]:
			return nil, fmt.Errorf("the word %q has no translation to draft 7", word)
		}
		inner, err := below(m)
		if err != nil {
			return nil, err
		}
		out = out.with(word, inner)
	}
	return out, nil
}

// below translates what stands under a word.
func below(m member) (any, error) {
	switch v := m.value.(type) {
	case object:
		if !maps[m.key] {
			return draft7(v)
		}
		out := object{}
		for _, named := range v {
			inner, err := draft7(named.value)
			if err != nil {
				return nil, err
			}
			out = out.with(named.key, inner)
		}
		return out, nil
	case []any:
		if values[m.key] {
			return v, nil
		}
		out := make([]any, len(v))
		for i := range v {
			var err error
			if out[i], err = draft7(v[i]); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return m.value, nil
}
