package flow

import "sync"

// Each runs f for all, at most some at a time, and returns what it made, in order.
func Each[S, T any](all []S, most int, f func(S) T) []T {
	out := make([]T, len(all))
	slots := make(chan struct{}, most)
	var work sync.WaitGroup
	for i, s := range all {
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			out[i] = f(s)
		})
	}
	work.Wait()
	return out
}
