package schemas

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// explain turns the library's tree of errors into details, sorted by pointer.
func explain(e *jsonschema.ValidationError, value any, t texts) []Detail {
	x := explainer{value: value, texts: t}
	x.walk(e)
	slices.SortFunc(x.details, func(a, b Detail) int {
		return cmp.Or(cmp.Compare(a.Pointer, b.Pointer), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(x.details)
}

type explainer struct {
	value   any
	texts   texts
	details []Detail
}

func (x *explainer) add(at []string, format string, args ...any) {
	x.details = append(x.details, Detail{pointer(at...), fmt.Sprintf(format, args...)})
}

func (x *explainer) walk(e *jsonschema.ValidationError) {
	at, expected := e.InstanceLocation, x.texts.keywords(e.SchemaURL)
	switch k := e.ErrorKind.(type) {
	case *kind.Schema, *kind.Group, *kind.Reference, *kind.AllOf:
		for _, cause := range e.Causes {
			x.walk(cause)
		}
	case *kind.AnyOf:
		x.alternatives(e)
	case *kind.OneOf:
		if len(k.Subschemas) == 0 {
			x.alternatives(e)
		} else {
			x.add(at, "matches more than one of the forms of which the schema wants one")
		}
	case *kind.Required:
		x.missing(at, k.Missing, expected, "")
	case *kind.DependentRequired:
		x.missing(at, k.Missing, expected, k.Prop)
	case *kind.Dependency:
		x.missing(at, k.Missing, expected, k.Prop)
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			x.add(below(at, name), "is not allowed here, remove it%s", expected.allowed())
		}
	case *kind.PropertyNames:
		reasons := explainer{value: k.Property, texts: x.texts}
		for _, cause := range e.Causes {
			reasons.walk(cause)
		}
		if object, _ := lookupPath(x.value, at).(map[string]any); object[k.Property] == nil {
			at = holder(x.value, k.Property)
		}
		x.add(below(at, k.Property), "is not allowed as a name: %s", reasons.line("; "))
	default:
		x.leaf(e, expected)
	}
}

// leaf explains what one keyword says about one value.
func (x *explainer) leaf(e *jsonschema.ValidationError, expected keywords) {
	at, value := e.InstanceLocation, lookupPath(x.value, e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		want := k.Want
		if expected == nil {
			expected = keywords{"type": want}
		}
		x.add(at, "must be %s, is %s", expected.phrase(), describe(value))
	case *kind.Enum:
		x.add(at, "%s is not allowed, use %s", show(value), keywords{"enum": k.Want}.phrase())
	case *kind.Const:
		x.add(at, "%s is not allowed, use %s", show(value), keywords{"const": k.Want}.phrase())
	case *kind.Minimum, *kind.Maximum, *kind.ExclusiveMinimum, *kind.ExclusiveMaximum, *kind.MultipleOf, *kind.Pattern:
		x.add(at, "must be %s, is %s", expected.phrase(), describe(value))
	case *kind.Format: // schemas themselves: their regular expressions
		if k.Want == "regex" {
			x.add(at, "%s is no regular expression in the syntax of RE2: %v", show(value), k.Err)
		} else {
			x.add(at, "%s is not in the format %s: %v", show(value), k.Want, k.Err)
		}
	case *kind.MinLength, *kind.MaxLength:
		has := "is empty"
		if s, _ := value.(string); s != "" {
			has = "has " + count(utf8.RuneCountInString(s), "character")
		}
		x.add(at, "must be %s, %s", expected.phrase(), has)
	case *kind.MinItems, *kind.MaxItems:
		items, _ := value.([]any)
		x.add(at, "must be %s, has %s", expected.phrase(), count(len(items), "item"))
	case *kind.MinProperties, *kind.MaxProperties:
		members, _ := value.(map[string]any)
		x.add(at, "must be %s, has %s", expected.phrase(), count(len(members), "member"))
	case *kind.UniqueItems:
		x.add(at, "items %d and %d are equal, remove one", k.Duplicates[0], k.Duplicates[1])
	case *kind.AdditionalItems:
		x.add(at, "has %s too many at its end, remove them", count(k.Count, "item"))
	case *kind.FalseSchema:
		x.add(at, "is not allowed here, remove it")
	case *kind.Not:
		x.add(at, "is what the schema forbids (keyword not)")
	case *kind.RefCycle:
		x.add(at, "can't be checked: the schema refers to itself without end")
	default: // contains and its bounds, and what a later library may bring
		x.add(at, "breaks the schema's keyword %s", strings.Join(e.ErrorKind.KeywordPath(), "/"))
	}
}

// missing names each absent member where it should be, and says what to put there.
func (x *explainer) missing(at, names []string, expected keywords, because string) {
	for _, name := range names {
		add := ""
		if p := expected.property(name); p.tells() {
			add = ", add " + p.phrase()
		} else {
			add = ", add it"
		}
		if because != "" {
			add += "; " + show(because) + " asks for it"
		}
		x.add(below(at, name), "is missing%s", add)
	}
}

// alternatives explains a value that fits none of several forms. Forms of another type than the
// value's are not what its author had in mind, unless there are only such.
func (x *explainer) alternatives(e *jsonschema.ValidationError) {
	var near []*jsonschema.ValidationError
	var types []string
	for _, cause := range e.Causes {
		k, ok := cause.ErrorKind.(*kind.Type)
		if ok && slices.Equal(cause.InstanceLocation, e.InstanceLocation) {
			types = append(types, k.Want...)
		} else {
			near = append(near, cause)
		}
	}
	switch len(near) {
	case 0:
		x.add(e.InstanceLocation, "must be %s, is %s", keywords{"type": types}.phrase(),
			describe(lookupPath(x.value, e.InstanceLocation)))
	case 1:
		x.walk(near[0])
	default:
		var forms []string
		for _, cause := range near {
			form := explainer{value: x.value, texts: x.texts}
			form.walk(cause)
			forms = append(forms, form.line(", "))
		}
		slices.Sort(forms)
		x.add(e.InstanceLocation, "matches none of the allowed forms: %s", strings.Join(slices.Compact(forms), "; or "))
	}
}

// line joins what was found; a few will do.
func (x *explainer) line(separator string) string {
	var lines []string
	for _, d := range x.details {
		lines = append(lines, d.String())
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines)[:min(len(lines), 3)], separator)
}

// below is the path of a member.
func below(at []string, name string) []string { return append(slices.Clone(at), name) }

func lookupPath(v any, path []string) any {
	for _, token := range path {
		v = child(v, token)
	}
	return v
}

// holder finds the object that has a member. In schemas that are themselves checked, the library's
// place of a bad name is not to be trusted; see pinned.
func holder(v any, name string) []string {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v[name]; ok {
			return []string{}
		}
		for _, member := range slices.Sorted(maps.Keys(v)) {
			if path := holder(v[member], name); path != nil {
				return append([]string{member}, path...)
			}
		}
	case []any:
		for i, item := range v {
			if path := holder(item, name); path != nil {
				return append([]string{strconv.Itoa(i)}, path...)
			}
		}
	}
	return nil
}

// child is a member or an item, nil if there is none.
func child(v any, token string) any {
	switch c := v.(type) {
	case map[string]any:
		return c[token]
	case []any:
		if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(c) {
			return c[i]
		}
	}
	return nil
}

// show writes a value as short JSON.
func show(v any) string {
	switch v := v.(type) {
	case map[string]any:
		return "an object"
	case []any:
		return "an array"
	case json.Number:
		return shorten(v.String(), 40)
	case string:
		return strconv.Quote(shorten(v, 60))
	}
	return fmt.Sprint(cmp.Or(v, any("null")))
}

// describe is show, except that a string is called one: "60" beside an expected integer is easily
// misread.
func describe(v any) string {
	if s, ok := v.(string); ok {
		return "the string " + show(s)
	}
	return show(v)
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
