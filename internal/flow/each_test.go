package flow

import (
	"slices"
	"sync/atomic"
	"testing"
)

func TestEach(t *testing.T) {
	var now, highest atomic.Int32
	arrived := make(chan struct{}, 100)
	both := make(chan struct{})
	go func() { // two run at once, or this never ends
		<-arrived
		<-arrived
		close(both)
	}()
	got := Each([]int{1, 2, 3, 4, 5, 6, 7}, 2, func(n int) int {
		n32 := now.Add(1)
		for was := highest.Load(); n32 > was && !highest.CompareAndSwap(was, n32); was = highest.Load() {
		}
		arrived <- struct{}{}
		<-both
		now.Add(-1)
		return n * n
	})
	if want := []int{1, 4, 9, 16, 25, 36, 49}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if highest.Load() != 2 {
		t.Errorf("%d ran at once, want 2", highest.Load())
	}
}
