package journal

import (
	"cmp"
	"math"
	"slices"
)

// place is where a body is.
type place struct {
	number  uint64 // under which the record was accepted
	segment uint32
	at      uint32
	size    uint32 // bytes; lostSize: it was damaged when it was to be moved
	sum     uint32
}

const lostSize = math.MaxUint32

func (p place) lost() bool { return p.size == lostSize }

// bytes returns the length of the body.
func (p place) bytes() int64 {
	if p.lost() {
		return 0
	}
	return int64(p.size)
}

// queue holds places in the order of their numbers, 24 bytes each.
type queue struct {
	chunks [][]place // none is empty
	len    int
}

const chunkSize = 512

// search returns the chunk that holds a number, or where it belongs.
func (q *queue) search(number uint64) int {
	n, _ := slices.BinarySearchFunc(q.chunks, number, func(c []place, number uint64) int { return cmp.Compare(c[len(c)-1].number, number) })
	return n
}

func (q *queue) searchIn(chunk int, number uint64) (int, bool) {
	return slices.BinarySearchFunc(q.chunks[chunk], number, func(p place, number uint64) int { return cmp.Compare(p.number, number) })
}

// set adds a place, or replaces the one of the same number, which it returns.
func (q *queue) set(p place) (old place, replaced bool) {
	n := q.search(p.number)
	if n == len(q.chunks) { // behind all
		if n == 0 || len(q.chunks[n-1]) >= chunkSize {
			q.chunks = append(q.chunks, nil)
			n++
		}
		q.chunks[n-1] = append(q.chunks[n-1], p)
		q.len++
		return place{}, false
	}
	i, found := q.searchIn(n, p.number)
	if found {
		old, q.chunks[n][i] = q.chunks[n][i], p
		return old, true
	}
	if c := slices.Insert(q.chunks[n], i, p); len(c) < 2*chunkSize {
		q.chunks[n] = c
	} else {
		q.chunks[n] = slices.Clone(c[:chunkSize])
		q.chunks = slices.Insert(q.chunks, n+1, slices.Clone(c[chunkSize:]))
	}
	q.len++
	return place{}, false
}

// pop removes the first place if its number is not above the floor.
func (q *queue) pop(floor uint64) (place, bool) {
	if len(q.chunks) == 0 || q.chunks[0][0].number > floor {
		return place{}, false
	}
	p := q.chunks[0][0]
	q.chunks[0] = q.chunks[0][1:]
	if len(q.chunks[0]) == 0 {
		q.chunks = q.chunks[1:]
	}
	q.len--
	return p, true
}

// after calls f for the places above a number until it returns false.
func (q *queue) after(number uint64, f func(place) bool) {
	n := q.search(number + 1)
	if n == len(q.chunks) {
		return
	}
	i, _ := q.searchIn(n, number+1)
	for ; n < len(q.chunks); n, i = n+1, 0 {
		for _, p := range q.chunks[n][i:] {
			if !f(p) {
				return
			}
		}
	}
}
