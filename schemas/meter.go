package schemas

import (
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"regexp/syntax"
	"slices"
	"strconv"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// meter counts the work of the library for one checker, which checks one payload at a time.
//
// The library has no way to stop it, but it calls back: for each schema that it compares with a value,
// it calls the schema's format first, before it looks at anything below. So each compiled schema gets a format
// of ours (gauge), which pays in advance for all that the library will do until it calls the next one. The keywords enum,
// const and uniqueItems may cost too much for that, and are replaced. When the budget is used up, the meter panics through
// the library, and within recovers.
type meter struct {
	work
	chain int // the most schemas, nested in each other, that are compared with one value
	cycle int // steps that an error about a circle of references may cost
	entry int // steps to begin with a schema, with an error about it
	deep  int // how deep the payload is
}

// stopped is what a meter panics with.
type stopped struct{}

// begin fills the meter for a payload.
func (m *meter) begin(ctx context.Context, payload []byte, steps int) {
	values, depth, vast := weigh(payload)
	m.work = newWork(steps)
	m.ctx = ctx
	m.deep = depth
	// Beginning with a schema walks the chain of those around it, and an error about it has a path.
	m.entry = 5 + depth/8 + m.chain/16 + m.cycle
	if vast {
		m.entry += vastSteps
	}
	m.spend(values + m.entry) // for decoding the payload
}

func (m *meter) spend(steps int) {
	if m.work.spend(steps); m.over() {
		panic(stopped{})
	}
}

// within runs f, and reports whether the budget was enough.
func (m *meter) within(f func()) (enough bool) {
	defer func() {
		switch r := recover(); r.(type) {
		case nil:
		case stopped:
			enough = false
		default:
			panic(r)
		}
	}()
	f()
	return true
}

// vastSteps is what a keyword costs that compares numbers of which one has hundreds of digits when it
// is written out.
const vastSteps = 300

// weigh counts the values of a JSON text, not less than there are, and how deep they are; vast numbers
// have many digits, or would if they were written without an exponent.
func weigh(raw []byte) (values, depth int, vast bool) {
	open, digits := 0, 0
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c >= '0' && c <= '9' || c == '.' {
			if digits++; digits > maxSize {
				vast = true
			}
			continue
		}
		if (c == 'e' || c == 'E') && digits > 0 {
			n := 0
			for i++; i < len(raw) && (raw[i] == '+' || raw[i] == '-' || raw[i] >= '0' && raw[i] <= '9'); i++ {
				if raw[i] >= '0' {
					n = min(10*n+int(raw[i]-'0'), 1000)
				}
			}
			i--
			vast = vast || n > maxSize
		}
		digits = 0
		switch c {
		case '"':
			for i++; i < len(raw) && raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			values++
			open++
			depth = max(depth, open)
		case '}', ']':
			open--
		case ',', ':':
			values++
		}
	}
	return values + 1, depth, vast
}

// gauge is the format of a compiled schema: it pays for what the library will do, and stands in for
// the schema's own format, const and enum.
type gauge struct {
	meter    *meter
	schema   *jsonschema.Schema
	values   []allowed // what const and enum ask for
	format   *jsonschema.Format
	inPlace  int // schemas that are held against the same value
	members  int // against a member's value, by its name
	member   int // against each member's name or value
	first    int // against the first items
	item     int // against each item
	names    int // names in lists of the schema
	numbers  int // keywords that compare numbers
	dynamic  bool
	unevaled bool // properties or items that are left over are asked for somewhere
}

// allowed are the values of const or enum.
type allowed struct {
	values   []any
	spelled  map[string]bool
	constant bool
}

// forbidden is the error about a value that is not among the allowed.
type forbidden struct{ allowed }

func (f *forbidden) Error() string { return "is not allowed" }

func newAllowed(values []any, constant bool) allowed {
	a := allowed{values: values, spelled: map[string]bool{}, constant: constant}
	for _, v := range values {
		a.spelled[string(spell(nil, v, func(int) {}))] = true
	}
	return a
}

// newGauge takes over the keywords of s that it stands in for.
func newGauge(m *meter, s *jsonschema.Schema) *gauge {
	g := &gauge{meter: m, schema: s, format: s.Format, inPlace: len(inPlace(s)),
		members: len(s.Properties), first: len(s.PrefixItems), dynamic: s.DynamicRef != nil || s.RecursiveRef != nil}
	if s.Const != nil {
		g.values = append(g.values, newAllowed([]any{*s.Const}, true))
	}
	if s.Enum != nil {
		g.values = append(g.values, newAllowed(s.Enum.Values, false))
	}
	s.Const, s.Enum = nil, nil
	additional, _ := s.AdditionalProperties.(*jsonschema.Schema)
	g.member = len(s.PatternProperties) + some(additional, s.PropertyNames, s.UnevaluatedProperties)
	items, _ := s.Items.(*jsonschema.Schema)
	first, _ := s.Items.([]*jsonschema.Schema)
	rest, _ := s.AdditionalItems.(*jsonschema.Schema)
	g.first += len(first)
	g.item = some(s.Items2020, s.Contains, s.UnevaluatedItems, items, rest)
	g.names = len(s.Required) + len(s.DependentSchemas) + len(s.DependentRequired) + len(s.Dependencies)
	for _, names := range s.DependentRequired {
		g.names += len(names)
	}
	for _, dependency := range s.Dependencies {
		names, _ := dependency.([]string)
		g.names += len(names)
	}
	for _, n := range []*big.Rat{s.Minimum, s.Maximum, s.ExclusiveMinimum, s.ExclusiveMaximum, s.MultipleOf} {
		if n != nil {
			g.numbers++
		}
	}
	return g
}

func some(schemas ...*jsonschema.Schema) (n int) {
	for _, s := range schemas {
		if s != nil {
			n++
		}
	}
	return n
}

// Validate is the format's.
func (g *gauge) Validate(v any) error {
	g.meter.spend(g.cost(v))
	for _, a := range g.values {
		if !a.spelled[string(spell(nil, v, g.meter.spend))] {
			return &forbidden{a}
		}
	}
	if g.format == nil {
		return nil
	}
	if text, ok := v.(string); ok {
		g.meter.spend(len(text))
		if g.format.Name == "regex" { // the library would compile it, whatever its size
			_, err := syntax.Parse(text, syntax.Perl)
			return err
		}
	}
	return g.format.Validate(v)
}

// cost is what the library will do with a value before it calls back.
func (g *gauge) cost(v any) int {
	m, below, size := g.meter, g.inPlace, 0
	steps := 1 + g.names
	switch v := v.(type) {
	case map[string]any:
		size = len(v)
		below += size*g.member + min(size, g.members)
	case []any:
		size = len(v)
		below += size*g.item + min(size, g.first)
	case string:
		steps += len(v) / 32
	case json.Number:
		steps += g.numbers * 3
		if m.entry > vastSteps {
			steps += g.numbers * vastSteps
		}
	}
	if g.unevaled {
		steps += size * (g.inPlace + 1)
	}
	if g.dynamic {
		steps += (m.deep + 1) * m.chain / 16
	}
	return steps + size + below*m.entry
}

// spell writes a value so that equal ones, and no others, are spelled alike: 1 is 1.0, and the order of
// members is nothing.
func spell(to []byte, v any, spend func(int)) []byte {
	spend(1)
	switch v := v.(type) {
	case map[string]any:
		to = append(to, '{')
		for _, name := range sortedKeys(v) {
			to = spell(spell(to, name, spend), v[name], spend)
		}
		return append(to, '}')
	case []any:
		to = append(to, '[')
		for _, item := range v {
			to = spell(to, item, spend)
		}
		return append(to, ']')
	case string:
		spend(len(v) / 32)
		to = append(strconv.AppendInt(append(to, '"'), int64(len(v)), 10), '"')
		return append(to, v...)
	case json.Number:
		if d, ok := parseDecimal([]byte(v)); ok {
			if d.negative {
				to = append(to, '-')
			}
			to = append(strconv.AppendUint(to, d.digits, 10), 'e')
			return append(strconv.AppendInt(to, int64(d.exp), 10), ';')
		}
		spend(vastSteps)
		return append(append(to, rat([]byte(v)).RatString()...), ';')
	case bool:
		if v {
			return append(to, 't')
		}
		return append(to, 'f')
	}
	return append(to, 'n')
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// distinct replaces uniqueItems: the library's compares all with all that have the same hash, and
// others can make such.
type distinct struct{ meter *meter }

func (d distinct) Validate(ctx *jsonschema.ValidatorContext, v any) {
	items, _ := v.([]any)
	seen := make(map[string]int, len(items))
	var spelled []byte
	for i, item := range items {
		spelled = spell(spelled[:0], item, d.meter.spend)
		if first, ok := seen[string(spelled)]; ok {
			ctx.AddError(&kind.UniqueItems{Duplicates: [2]int{first, i}})
			return
		}
		d.meter.spend(1 + len(spelled)/16)
		seen[string(spelled)] = i
	}
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
