package schemas

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// keywords are the keywords of one schema object, in the words of which people are told what is
// expected: in refusals, and in Rules.
type keywords map[string]any

// Rules says a channel's schema in lines such as "/severity: required, one of info, warn, error",
// derived from the schema itself. It is nil for a name that has no schema.
func (c *Catalog) Rules(name string) []string {
	ch, ok := c.channels[name]
	if !ok {
		return nil
	}
	lines := []string{"payload: " + ch.keywords.phrase() + ch.keywords.closed()}
	return append(lines, ch.keywords.rules("")...)
}

// rules describes the members of an object, or of the objects in an array.
func (k keywords) rules(at string) []string {
	var lines []string
	for _, name := range k.names() {
		p, need := k.property(name), "optional"
		if k.requires(name) {
			need = "required"
		}
		here := at + pointer(name)
		line := here + ": " + need
		if p.tells() {
			line += ", " + p.phrase()
		}
		line += p.closed()
		if about, _ := p["description"].(string); about != "" {
			line += ". " + strings.TrimSuffix(about, ".")
		}
		lines = append(lines, line+".")
		lines = append(lines, p.rules(here)...)
	}
	if items, ok := k["items"].(map[string]any); ok {
		lines = append(lines, at+"/*: "+keywords(items).phrase()+".")
		lines = append(lines, keywords(items).rules(at+"/*")...)
	}
	dependent, _ := k["dependentRequired"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(dependent)) {
		lines = append(lines, fmt.Sprintf("%s: required when %s is there.",
			strings.Join(pointers(at, dependent[name]), ", "), at+pointer(name)))
	}
	return lines
}

// names lists the properties, required ones first.
func (k keywords) names() []string {
	properties, _ := k["properties"].(map[string]any)
	names := slices.Sorted(maps.Keys(properties))
	slices.SortStableFunc(names, func(a, b string) int {
		switch ra, rb := k.requires(a), k.requires(b); {
		case ra == rb:
			return 0
		case ra:
			return -1
		}
		return 1
	})
	return names
}

func (k keywords) property(name string) keywords {
	properties, _ := k["properties"].(map[string]any)
	p, _ := properties[name].(map[string]any)
	return p
}

func (k keywords) requires(name string) bool {
	required, _ := k["required"].([]any)
	return slices.Contains(required, any(name))
}

// closed says that an object takes no other members than those listed.
func (k keywords) closed() string {
	if k["additionalProperties"] != false {
		return ""
	}
	return ", no other members" + k.allowed()
}

// allowed lists the members of a closed object.
func (k keywords) allowed() string {
	names := k.names()
	if len(names) == 0 || len(names) > 20 {
		return ""
	}
	return " (allowed: " + strings.Join(names, ", ") + ")"
}

// tells is whether phrase has more to say than that it is a value.
func (k keywords) tells() bool { return k.phrase() != anything }

// maxWords is how many allowed values are listed.
const maxWords = 40

const anything = "any value"

// phrase says what is expected: "an integer from 1 to 10080", "one of info, warn, error".
func (k keywords) phrase() string {
	if c, ok := k["const"]; ok {
		return word(c)
	}
	if values, ok := k["enum"].([]any); ok {
		words := make([]string, min(len(values), maxWords))
		for i := range words {
			words[i] = word(values[i])
		}
		more := ""
		if len(values) > maxWords {
			more = fmt.Sprintf(" or %d more", len(values)-maxWords)
		}
		return "one of " + strings.Join(words, ", ") + more
	}
	var forms []string
	for _, t := range k.types() {
		forms = append(forms, k.form(t))
	}
	if len(forms) > 0 {
		slices.Sort(forms)
		return alternatives(slices.Compact(forms))
	}
	for _, t := range []string{"number", "string", "array", "object"} {
		if f := k.form(t); f != nouns[t] {
			return f
		}
	}
	return anything
}

func (k keywords) types() []string {
	switch t := k["type"].(type) {
	case string:
		return []string{t}
	case []string:
		return t
	case []any:
		var types []string
		for _, v := range t {
			if s, ok := v.(string); ok {
				types = append(types, s)
			}
		}
		return types
	}
	return nil
}

var nouns = map[string]string{"object": "an object", "array": "an array", "string": "a string", "integer": "an integer",
	"number": "a number", "boolean": "true or false", "null": "null"}

// form is a type with what the schema says about values of that type.
func (k keywords) form(t string) string {
	var b strings.Builder
	b.WriteString(nouns[t])
	switch t {
	case "number", "integer":
		b.WriteString(k.between("minimum", "maximum", ""))
		if v, ok := k["exclusiveMinimum"]; ok {
			fmt.Fprintf(&b, " above %v", v)
		}
		if v, ok := k["exclusiveMaximum"]; ok {
			fmt.Fprintf(&b, " below %v", v)
		}
		if v, ok := k["multipleOf"]; ok {
			fmt.Fprintf(&b, " that is a multiple of %v", v)
		}
	case "string":
		if k["maxLength"] == nil && fmt.Sprint(k["minLength"]) == "1" {
			b.WriteString(" that is not empty")
		} else {
			b.WriteString(k.between("minLength", "maxLength", "character"))
		}
		if v, ok := k["pattern"].(string); ok {
			fmt.Fprintf(&b, " that matches %s", quoted(v))
		}
		if v, ok := k["format"].(string); ok {
			fmt.Fprintf(&b, " in the format %s", quoted(v))
		}
	case "array":
		b.WriteString(k.between("minItems", "maxItems", "item"))
	case "object":
		b.WriteString(k.between("minProperties", "maxProperties", "member"))
	}
	return b.String()
}

// between says a range, of a number itself or of how many it has.
func (k keywords) between(low, high, noun string) string {
	least, hasLeast := k[low]
	most, hasMost := k[high]
	of, from, plural := "", " from", ""
	if noun != "" {
		of, from, plural = " of", " of", " "+noun+"s"
		if fmt.Sprint(most) == "1" || !hasMost && fmt.Sprint(least) == "1" {
			plural = " " + noun
		}
	}
	switch {
	case hasLeast && hasMost:
		return fmt.Sprintf("%s %v to %v%s", from, least, most, plural)
	case hasLeast && noun == "":
		return fmt.Sprintf(" of %v or more", least)
	case hasLeast:
		return fmt.Sprintf("%s at least %v%s", of, least, plural)
	case hasMost:
		return fmt.Sprintf(" of at most %v%s", most, plural)
	}
	return ""
}

// quoted is a text of a schema as far as a refusal tells it.
func quoted(s string) string { return printable(shorten(s, 2*maxWord)) }

// maxWord bounds an allowed value in bytes.
const maxWord = 60

// word writes an allowed value: plain words as they are, everything else as JSON.
func word(v any) string {
	special := func(r rune) bool { return r <= ' ' || r == ',' || r == '"' || r == 0x7F }
	if s, ok := v.(string); ok && s != "" && len(s) <= maxWord && !strings.ContainsFunc(s, special) {
		return s
	}
	if text, err := json.Marshal(v); err == nil {
		return shorten(string(text), maxWord)
	}
	return shorten(fmt.Sprint(v), maxWord)
}

func alternatives(forms []string) string {
	if len(forms) == 1 {
		return forms[0]
	}
	last := len(forms) - 1
	return strings.Join(forms[:last], ", ") + " or " + forms[last]
}

func pointers(at string, names any) []string {
	list, _ := names.([]any)
	var out []string
	for _, n := range list {
		out = append(out, at+pointer(fmt.Sprint(n)))
	}
	return out
}
