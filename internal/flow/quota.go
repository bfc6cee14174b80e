package flow

// Quota divides something of which there is a limit. Nobody has more than is free beside it: one gets half, two a
// third each, and there is always some for who comes next. Its users lock it.
type Quota struct {
	Limit int
	used  int
	of    map[any]int // by who has it
}

// Used is how much everybody has together.
func (q *Quota) Used() int { return q.used }

// Of is how much who has.
func (q *Quota) Of(who any) int { return q.of[who] }

// Take reports whether there was one more for who.
func (q *Quota) Take(who any) bool {
	return q.of[who] < q.Limit-q.used && q.TakeAny(who)
}

// TakeAny is Take for who may have everything.
func (q *Quota) TakeAny(who any) bool {
	if q.used >= q.Limit {
		return false
	}
	q.Add(who, 1)
	return true
}

// Give takes one of who's back.
func (q *Quota) Give(who any) { q.Add(who, -1) }

// Fits reports whether there is room for n of who's. Who has none may have some more than is free, if anything is.
func (q *Quota) Fits(who any, n int) bool {
	return n == 0 || q.used < q.Limit && (q.of[who] == 0 || q.of[who]+n <= q.Limit-q.used)
}

// Add counts n of who's, or forgets them.
func (q *Quota) Add(who any, n int) {
	if q.of == nil {
		q.of = map[any]int{}
	}
	q.used += n
	if q.of[who] += n; q.of[who] == 0 {
		delete(q.of, who)
	}
}
