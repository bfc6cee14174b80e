package schemas

// array is what a schema asks of an array.
type array struct {
	first    []*node // of the first items, one by one
	rest     *node   // of those after them
	size     span
	contains *node
	some     span // how many items contains must fit
	unique   bool
}

// manyItems is from how many items on comparing all with all takes too long.
const manyItems = 32

func (a *array) valid(t *tape, at uint32) bool {
	size, some := 0, 0
	for i, end := at+1, t.tokens[at].next; i < end; i = t.tokens[i].next {
		switch {
		case size < len(a.first):
			if !a.first[size].valid(t, i) {
				return false
			}
		case a.rest != nil && !a.rest.valid(t, i):
			return false
		}
		if size++; t.over() {
			return false
		}
		if a.contains != nil && a.contains.valid(t, i) {
			some++
		}
	}
	if !a.size.holds(size) || a.contains != nil && !a.some.holds(some) {
		return false
	}
	return !a.unique || a.distinct(t, at, size)
}

func (a *array) distinct(t *tape, at uint32, size int) bool {
	if size >= manyItems {
		t.unsure = true
		return false
	}
	for i, end := at+1, t.tokens[at].next; i < end; i = t.tokens[i].next {
		for j := at + 1; j < i; j = t.tokens[j].next {
			if t.equal(i, t, j) {
				return false
			}
		}
	}
	return true
}
