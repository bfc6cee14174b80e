package flow

import "testing"

func TestQuota(t *testing.T) {
	q := Quota{Limit: 12}
	fill := func(who string) (n int) {
		for q.Take(who) {
			n++
		}
		return n
	}
	if n := fill("one"); n != 6 {
		t.Errorf("one alone has %d of 12", n)
	}
	if n := fill("two"); n != 3 {
		t.Errorf("a second one has %d", n)
	}
	if q.Take("one") || !q.Take("three") {
		t.Error("there is none left for who comes next, or more for who has most")
	}
	for range 4 {
		q.Give("one")
	}
	if n := fill("two"); n == 0 {
		t.Error("what is given back is nobody's")
	}
	for q.TakeAny("all") {
	}
	if q.used != q.Limit {
		t.Errorf("%d of %d used", q.used, q.Limit)
	}
}
