package local

// quota divides something of which there is a limit. Nobody has more than is free beside it: one gets half, two a
// third each, and there is always some for who comes next.
type quota struct {
	limit, used int
	of          map[any]int // by who has it
}

// take reports whether there was one more for who.
func (q *quota) take(who any) bool {
	return q.of[who] < q.limit-q.used && q.takeAny(who)
}

// takeAny is take for who may have everything.
func (q *quota) takeAny(who any) bool {
	if q.used >= q.limit {
		return false
	}
	q.add(who, 1)
	return true
}

func (q *quota) give(who any) { q.add(who, -1) }

// fits reports whether there is room for n of who's. Who has none may have some more than is free, if anything is.
func (q *quota) fits(who any, n int) bool {
	return n == 0 || q.used < q.limit && (q.of[who] == 0 || q.of[who]+n <= q.limit-q.used)
}

// add counts n of who's, or forgets them.
func (q *quota) add(who any, n int) {
	if q.of == nil {
		q.of = map[any]int{}
	}
	q.used += n
	if q.of[who] += n; q.of[who] == 0 {
		delete(q.of, who)
	}
}
