package schemas

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// plan turns what the library has compiled into nodes. References are resolved and drafts told apart
// there already.
type plan struct {
	nodes map[*jsonschema.Schema]*node
	lacks string // a keyword that nodes do not have; the plan is then worth nothing
}

// newNode makes a node of a compiled schema. A schema with a keyword that nodes do not have gets
// none, and lacks names the keyword.
func newNode(s *jsonschema.Schema) (n *node, lacks string) {
	p := plan{nodes: map[*jsonschema.Schema]*node{}}
	n = p.node(s)
	if p.lacks == "" && p.circular() {
		p.lacks = "$ref to itself"
	}
	if p.lacks != "" {
		return nil, p.lacks
	}
	return n, ""
}

func (p *plan) lack(keyword string, missing bool) {
	if missing && p.lacks == "" {
		p.lacks = keyword
	}
}

// node makes the node of a schema, once. nil stays nil.
func (p *plan) node(s *jsonschema.Schema) *node {
	if s == nil {
		return nil
	}
	if n, ok := p.nodes[s]; ok {
		return n
	}
	n := &node{types: typeAny}
	p.nodes[s] = n
	switch {
	case s.Bool != nil && !*s.Bool:
		n.types = 0
	case s.Bool == nil:
		p.lack("$schema", s.DraftVersion != 2020)
		p.lack("format", s.Format != nil)
		p.lack("$dynamicRef", s.DynamicRef != nil || s.RecursiveRef != nil)
		p.lack("unevaluatedProperties", s.UnevaluatedProperties != nil)
		p.lack("unevaluatedItems", s.UnevaluatedItems != nil)
		p.lack("content", s.ContentEncoding != nil || s.ContentMediaType != nil || s.ContentSchema != nil)
		p.lack("items", s.Items != nil || s.AdditionalItems != nil) // as earlier drafts have them
		p.lack("vocabulary", len(s.Extensions) != 0)
		p.fill(n, s)
	}
	return n
}

func (p *plan) fill(n *node, s *jsonschema.Schema) {
	if s.Types != nil && !s.Types.IsEmpty() {
		n.types, n.integer = types(s.Types.ToStrings())
	}
	if s.Const != nil {
		n.constant = p.literal(*s.Const)
	}
	if s.Enum != nil {
		n.enum = p.enum(s.Enum.Values)
	}
	n.object, n.array = p.object(s), p.array(s)
	if s.MinLength != nil || s.MaxLength != nil || s.Pattern != nil {
		n.text = &text{length: newSpan(s.MinLength, s.MaxLength)}
		if s.Pattern != nil {
			n.text.expr = p.expression(s.Pattern)
		}
	}
	if s.Minimum != nil || s.Maximum != nil || s.ExclusiveMinimum != nil || s.ExclusiveMaximum != nil || s.MultipleOf != nil {
		n.number = &number{least: newBound(s.Minimum), most: newBound(s.Maximum), above: newBound(s.ExclusiveMinimum),
			below: newBound(s.ExclusiveMaximum), multiple: newBound(s.MultipleOf)}
	}
	f := &forms{all: p.list(s.AllOf), anyOf: p.list(s.AnyOf), oneOf: p.list(s.OneOf), not: p.node(s.Not)}
	if s.Ref != nil {
		f.all = append(f.all, p.node(s.Ref))
	}
	if s.If != nil {
		f.test, f.then, f.otherwise = p.node(s.If), p.node(s.Then), p.node(s.Else)
	}
	if f.all != nil || f.anyOf != nil || f.oneOf != nil || f.not != nil || f.test != nil {
		n.forms = f
	}
}

func types(names []string) (set jsonType, integer bool) {
	for _, name := range names {
		switch name {
		case "null":
			set |= typeNull
		case "boolean":
			set |= typeBoolean
		case "number", "integer":
			set |= typeNumber
		case "string":
			set |= typeString
		case "array":
			set |= typeArray
		case "object":
			set |= typeObject
		}
	}
	return set, slices.Contains(names, "integer") && !slices.Contains(names, "number")
}

// literal puts a value of the schema on a tape of its own.
func (p *plan) literal(v any) *tape {
	s := &scanner{}
	raw, err := json.Marshal(v)
	if err == nil {
		err = s.scan(raw, boundless)
	}
	p.lack("a number of that size", err != nil)
	return &s.tape
}

func (p *plan) enum(values []any) *enum {
	e := &enum{words: map[string]bool{}, numbers: map[decimal]bool{}}
	for _, v := range values {
		switch v := v.(type) {
		case string:
			e.words[v] = true
			continue
		case json.Number:
			if d, ok := parseDecimal([]byte(v)); ok && Guard([]byte(v), boundless) == nil {
				e.numbers[d] = true
				continue
			}
		}
		e.others = append(e.others, p.literal(v))
	}
	return e
}

func (p *plan) expression(r jsonschema.Regexp) *expression {
	x, ok := r.(*expression)
	p.lack("pattern", !ok)
	return x
}

// list makes nodes of schemas, nil if there are none.
func (p *plan) list(schemas []*jsonschema.Schema) []*node {
	var nodes []*node
	for _, s := range schemas {
		nodes = append(nodes, p.node(s))
	}
	return nodes
}

func (p *plan) array(s *jsonschema.Schema) *array {
	if s.MinItems == nil && s.MaxItems == nil && !s.UniqueItems && s.PrefixItems == nil && s.Items2020 == nil && s.Contains == nil {
		return nil
	}
	a := &array{first: p.list(s.PrefixItems), rest: p.node(s.Items2020), size: newSpan(s.MinItems, s.MaxItems),
		contains: p.node(s.Contains), unique: s.UniqueItems}
	a.some = newSpan(s.MinContains, s.MaxContains)
	if s.MinContains == nil {
		a.some.least = 1
	}
	return a
}

func (p *plan) object(s *jsonschema.Schema) *object {
	if s.MinProperties == nil && s.MaxProperties == nil && len(s.Required)+len(s.Properties)+len(s.PatternProperties) == 0 &&
		s.AdditionalProperties == nil && s.PropertyNames == nil && len(s.Dependencies)+len(s.DependentRequired)+len(s.DependentSchemas) == 0 {
		return nil
	}
	o := &object{size: newSpan(s.MinProperties, s.MaxProperties), name: p.node(s.PropertyNames)}
	p.members(o, s)
	for expr, value := range s.PatternProperties {
		o.patterns = append(o.patterns, pattern{p.expression(expr), p.node(value)})
	}
	switch rest := s.AdditionalProperties.(type) {
	case bool:
		if !rest {
			o.rest = &node{}
		}
	case *jsonschema.Schema:
		o.rest = p.node(rest)
	}
	for name, required := range s.DependentRequired {
		o.dependents = append(o.dependents, dependent{name: name, required: required})
	}
	for name, sub := range s.DependentSchemas {
		o.dependents = append(o.dependents, dependent{name: name, object: p.node(sub)})
	}
	for name, either := range s.Dependencies { // an older spelling of the two
		d := dependent{name: name}
		switch either := either.(type) {
		case []string:
			d.required = either
		case *jsonschema.Schema:
			d.object = p.node(either)
		}
		o.dependents = append(o.dependents, d)
	}
	return o
}

// members lists the names that the schema has something to say about.
func (p *plan) members(o *object, s *jsonschema.Schema) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		o.members = append(o.members, member{name: name, value: p.node(s.Properties[name])})
	}
	for _, name := range s.Required {
		i := slices.IndexFunc(o.members, func(m member) bool { return m.name == name })
		if i < 0 {
			i = len(o.members)
			o.members = append(o.members, member{name: name})
		}
		if !o.members[i].required {
			o.members[i].required = true
			o.required++
		}
	}
	if len(o.members) > fewMembers {
		o.index = map[string]int{}
		for i, m := range o.members {
			o.index[m.name] = i
		}
	}
}

// circular reports whether a node asks itself about the same value, by way of others.
func (p *plan) circular() bool {
	const under, done = 1, 2
	state := map[*node]int{}
	var visit func(n *node) bool
	visit = func(n *node) bool {
		if n == nil || state[n] == done {
			return false
		}
		if state[n] == under {
			return true
		}
		state[n] = under
		defer func() { state[n] = done }()
		return slices.ContainsFunc(n.inPlace(), visit)
	}
	for _, n := range p.nodes {
		if visit(n) {
			return true
		}
	}
	return false
}

// inPlace lists the nodes that a node holds against its own value.
func (n *node) inPlace() []*node {
	var nodes []*node
	if f := n.forms; f != nil {
		nodes = slices.Concat(f.all, f.anyOf, f.oneOf, []*node{f.not, f.test, f.then, f.otherwise})
	}
	if n.object != nil {
		for _, d := range n.object.dependents {
			nodes = append(nodes, d.object)
		}
	}
	return nodes
}
