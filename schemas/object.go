package schemas

// object is what a schema asks of an object.
type object struct {
	members    []member
	index      map[string]int // of members, when there are many
	required   int            // how many of the members are
	patterns   []pattern
	rest       *node // of the values that neither a member nor a pattern speaks of
	name       *node // of every name
	size       span
	dependents []dependent
}

// member is what is known of a name.
type member struct {
	name     string
	value    *node // nil: it is required, and rest speaks of its value
	required bool
}

// pattern speaks of the values whose names match.
type pattern struct {
	expr  *expression
	value *node
}

// dependent is what is asked of an object that has a member.
type dependent struct {
	name     string
	required []string
	object   *node
}

// fewMembers is up to how many members are found by comparing one after the other.
const fewMembers = 8

func (o *object) find(name []byte) *member {
	if o.index != nil {
		if i, ok := o.index[string(name)]; ok {
			return &o.members[i]
		}
		return nil
	}
	for i := range o.members {
		if m := &o.members[i]; m.name == string(name) {
			return m
		}
	}
	return nil
}

func (o *object) valid(t *tape, at uint32) bool {
	size, required := 0, 0
	for i, end := at+1, t.tokens[at].next; i < end; i = t.tokens[i+1].next {
		size++
		name, known := t.textAt(i), false
		if m := o.find(name); m != nil {
			if m.required {
				required++ // no name comes twice
			}
			if known = m.value != nil; known && !m.value.valid(t, i+1) {
				return false
			}
		}
		for _, p := range o.patterns {
			if p.expr.match(t, name) {
				if known = true; !p.value.valid(t, i+1) {
					return false
				}
			}
		}
		if !known && o.rest != nil && !o.rest.valid(t, i+1) || o.name != nil && !o.name.valid(t, i) {
			return false
		}
	}
	if t.over() {
		return false
	}
	return required == o.required && o.size.holds(size) && o.complete(t, at)
}

// complete reports whether the object has what its members ask for.
func (o *object) complete(t *tape, at uint32) bool {
	for _, d := range o.dependents {
		if t.over() {
			return false
		}
		if t.memberPaid(at, d.name) == 0 {
			continue
		}
		for _, name := range d.required {
			if t.memberPaid(at, name) == 0 {
				return false
			}
		}
		if d.object != nil && !d.object.valid(t, at) {
			return false
		}
	}
	return true
}
