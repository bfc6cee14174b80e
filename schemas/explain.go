package schemas

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// Bounds of an explanation. What is wrong with a payload may be longer than the payload, and alternatives
// within alternatives multiply.
const (
	maxMessage  = 1 << 10 // bytes of one message
	maxPointer  = 1 << 10 // bytes of a pointer; what is deeper is explained where the pointer ends
	maxForms    = 8       // alternatives that are explained
	maxNested   = 3       // alternatives within alternatives that are explained
	nodeSteps   = 4       // for a look at one of the library's errors
	detailSteps = 100     // for writing one of the details, beside its bytes
	textSteps   = 16      // bytes of text that cost a step
	keptDetails = 4 * maxDetails
)

// explain turns the library's tree of errors into details, sorted by pointer, at the meter's expense: the
// first few, and how many more there are.
func explain(m *meter, e *jsonschema.ValidationError, value any, t texts) []Detail {
	x := explainer{meter: m, value: value, texts: t}
	x.walk(e)
	x.sort()
	if len(x.details) > maxDetails {
		x.more += len(x.details) - maxDetails
		x.details = x.details[:maxDetails]
	}
	return limited(x.details, x.more)
}

type explainer struct {
	meter   *meter
	value   any
	texts   texts
	details []Detail
	more    int    // how many were left out
	last    string // no pointer behind this one is wanted any more; "" before there are many
	nested  int    // how many alternatives this explains the insides of
}

// sort leaves each detail once, in order.
func (x *explainer) sort() {
	slices.SortFunc(x.details, func(a, b Detail) int {
		return cmp.Or(cmp.Compare(a.Pointer, b.Pointer), cmp.Compare(a.Message, b.Message))
	})
	x.details = slices.Compact(x.details)
}

// wants reports whether a detail about a value is still wanted, before it is written; one that is not is
// counted.
func (x *explainer) wants(at []string) bool {
	x.meter.spend(1)
	if x.last != "" && shortPointer(at) > x.last {
		x.more++
		return false
	}
	x.meter.spend(detailSteps)
	return true
}

// add adds a detail. Of the message only the beginning is kept.
func (x *explainer) add(at []string, format string, args ...any) {
	where := shortPointer(at)
	x.meter.spend(len(where) / textSteps)
	message := fmt.Sprintf(format, args...)
	x.meter.spend(len(message) / textSteps)
	x.details = append(x.details, Detail{where, shorten(message, maxMessage)})
	if len(x.details) < keptDetails {
		return
	}
	if x.sort(); len(x.details) > maxDetails {
		x.more += len(x.details) - maxDetails
		x.details = x.details[:maxDetails]
		x.last = x.details[maxDetails-1].Pointer
	}
}

// shortPointer is the pointer of a path, or of so much of it that is not too long.
func shortPointer(path []string) string {
	size := 0
	for i, token := range path {
		if size += 1 + len(token); size > maxPointer {
			return pointer(path[:i]...)
		}
	}
	return pointer(path...)
}

func (x *explainer) walk(e *jsonschema.ValidationError) {
	x.meter.spend(nodeSteps)
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
		} else if x.wants(at) {
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
			if x.wants(below(at, name)) {
				x.add(below(at, name), "is not allowed here, remove it%s", expected.allowed())
			}
		}
	case *kind.PropertyNames:
		object, _ := lookupPath(x.value, at).(map[string]any)
		if _, ok := object[k.Property]; !ok {
			at = x.holder(x.value, k.Property)
		}
		at = below(at, k.Property)
		if !x.wants(at) {
			return
		}
		reasons := explainer{meter: x.meter, value: k.Property, texts: x.texts, nested: x.nested}
		for _, cause := range e.Causes {
			reasons.walk(cause)
		}
		x.add(at, "is not allowed as a name: %s", reasons.line("; "))
	default:
		if x.wants(at) {
			x.leaf(e, expected)
		}
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
	case *kind.Format: // const and enum; and, of schemas themselves, their regular expressions
		var forbidden *forbidden
		var size expressionSizeError
		if errors.As(k.Err, &forbidden) {
			x.add(at, "%s is not allowed, use %s", show(value), forbidden.phrase())
		} else if errors.As(k.Err, &size) {
			x.add(at, "%s is too large a regular expression: it %v", show(value), k.Err)
		} else if k.Want == "regex" {
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
		if !x.wants(below(at, name)) {
			continue
		}
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
	if !x.wants(e.InstanceLocation) {
		return
	}
	var near []*jsonschema.ValidationError
	var types []string
	for _, cause := range e.Causes {
		x.meter.spend(1)
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
		if x.nested == maxNested {
			x.add(e.InstanceLocation, "matches none of the %d allowed forms", len(near))
			return
		}
		var forms []string
		for _, cause := range near[:min(len(near), maxForms)] {
			form := explainer{meter: x.meter, value: x.value, texts: x.texts, nested: x.nested + 1}
			form.walk(cause)
			forms = append(forms, form.line(", "))
		}
		slices.Sort(forms)
		more := ""
		if len(near) > maxForms {
			more = fmt.Sprintf("; or %d more", len(near)-maxForms)
		}
		x.add(e.InstanceLocation, "matches none of the allowed forms: %s%s", strings.Join(slices.Compact(forms), "; or "), more)
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
func (x *explainer) holder(v any, name string) []string {
	x.meter.spend(1)
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v[name]; ok {
			return []string{}
		}
		for _, member := range sortedKeys(v) {
			if path := x.holder(v[member], name); path != nil {
				return append([]string{member}, path...)
			}
		}
	case []any:
		for i, item := range v {
			if path := x.holder(item, name); path != nil {
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

// phrase says what is allowed.
func (a allowed) phrase() string {
	if a.constant {
		return keywords{"const": a.values[0]}.phrase()
	}
	return keywords{"enum": a.values}.phrase()
}
