package schemas

import (
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// graph is a compiled schema with all that it refers to.
type graph struct {
	schemas []*jsonschema.Schema // each once
	known   map[*jsonschema.Schema]bool
}

func newGraph(s *jsonschema.Schema) *graph {
	g := &graph{known: map[*jsonschema.Schema]bool{}}
	g.add(s)
	return g
}

// add adds a schema and everything below it.
func (g *graph) add(s *jsonschema.Schema) {
	if s == nil || g.known[s] {
		return
	}
	g.known[s] = true
	g.schemas = append(g.schemas, s)
	for _, sub := range inPlace(s) {
		g.add(sub)
	}
	for _, sub := range []*jsonschema.Schema{s.PropertyNames, s.UnevaluatedProperties, s.Contains, s.Items2020, s.UnevaluatedItems, s.ContentSchema, s.Then, s.Else} {
		g.add(sub)
	}
	for _, sub := range s.PrefixItems {
		g.add(sub)
	}
	for _, sub := range s.Properties {
		g.add(sub)
	}
	for _, sub := range s.PatternProperties {
		g.add(sub)
	}
	for _, either := range []any{s.AdditionalProperties, s.Items, s.AdditionalItems} { // where drafts differ, the library keeps any
		for _, sub := range subschemas(either) {
			g.add(sub)
		}
	}
}

// inPlace lists the schemas that one holds against its own value.
func inPlace(s *jsonschema.Schema) []*jsonschema.Schema {
	var list []*jsonschema.Schema
	for _, sub := range []*jsonschema.Schema{s.Ref, s.RecursiveRef, s.Not, s.If, s.Then, s.Else} {
		if sub != nil {
			list = append(list, sub)
		}
	}
	if s.DynamicRef != nil && s.DynamicRef.Ref != nil {
		list = append(list, s.DynamicRef.Ref)
	}
	for _, subs := range [][]*jsonschema.Schema{s.AllOf, s.AnyOf, s.OneOf} {
		list = append(list, subs...)
	}
	for _, sub := range s.DependentSchemas {
		list = append(list, sub)
	}
	for _, dependency := range s.Dependencies {
		list = append(list, subschemas(dependency)...)
	}
	return list
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

// dynamic lists what a reference may lead to that is resolved while a value is checked.
func (g *graph) dynamic() []*jsonschema.Schema {
	var list []*jsonschema.Schema
	for _, s := range g.schemas {
		if s.DynamicAnchor != "" || s.RecursiveAnchor {
			list = append(list, s)
		}
	}
	return list
}

// maxChain bounds how many schemas may be held against one value within each other, $ref by $ref: what
// checks goes that deep, once for each level of the payload.
const maxChain = 100

// chain is the longest such chain, at most, and whether there are circles: Tarjan's components, of
// which one that is a circle counts with all its schemas.
func (g *graph) chain() (longest int, circular bool) {
	var (
		number = map[*jsonschema.Schema]int{}
		low    = map[*jsonschema.Schema]int{}
		length = map[*jsonschema.Schema]int{} // set when its component is known
		stack  []*jsonschema.Schema
		visit  func(s *jsonschema.Schema)
	)
	dynamic := g.dynamic()
	next := func(s *jsonschema.Schema) []*jsonschema.Schema {
		if s.DynamicRef != nil || s.RecursiveRef != nil {
			return append(inPlace(s), dynamic...)
		}
		return inPlace(s)
	}
	visit = func(s *jsonschema.Schema) {
		number[s] = len(number) + 1
		low[s] = number[s]
		stack = append(stack, s)
		for _, sub := range next(s) {
			switch {
			case number[sub] == 0:
				visit(sub)
				low[s] = min(low[s], low[sub])
			case length[sub] == 0:
				low[s] = min(low[s], number[sub])
			}
			circular = circular || sub == s
		}
		if low[s] != number[s] {
			return
		}
		from := len(stack) - 1
		for stack[from] != s {
			from--
		}
		component := stack[from:]
		stack = stack[:from]
		circular = circular || len(component) > 1
		below := 0
		for _, member := range component {
			for _, sub := range next(member) {
				below = max(below, length[sub])
			}
		}
		for _, member := range component {
			length[member] = len(component) + below
		}
		longest = max(longest, len(component)+below)
	}
	for _, s := range g.schemas {
		if number[s] == 0 {
			visit(s)
		}
	}
	return longest, circular
}

// chainError is a schema beyond maxChain.
type chainError int

func (e chainError) Error() string {
	return fmt.Sprintf("holds %d schemas against one value within each other ($ref, allOf, anyOf, oneOf, not, if), at most %d are allowed; flatten them", int(e), maxChain)
}

// measure puts the whole graph on a meter.
func (g *graph) measure(m *meter) error {
	longest, circular := g.chain()
	if longest > maxChain {
		return chainError(longest)
	}
	m.chain = longest
	unevaluated := false
	for _, s := range g.schemas {
		unevaluated = unevaluated || s.UnevaluatedProperties != nil || s.UnevaluatedItems != nil
		if circular {
			m.cycle = max(m.cycle, longest*len(s.Location)/256)
		}
	}
	for _, s := range g.schemas {
		if s.Bool != nil {
			continue
		}
		gauge := newGauge(m, s)
		gauge.unevaled = unevaluated
		name := ""
		if s.Format != nil {
			name = s.Format.Name
		}
		s.Format = &jsonschema.Format{Name: name, Validate: gauge.Validate}
		if s.PropertyNames != nil {
			s.Extensions = append(s.Extensions, pinned{s.PropertyNames})
			s.PropertyNames = nil
		}
		if s.UniqueItems {
			s.Extensions = append(s.Extensions, distinct{m})
			s.UniqueItems = false
		}
	}
	return nil
}
