// Package race is for tests that compute a lot in one goroutine: the race detector finds nothing there, and they take
// ten times as long. So with it they do a part of their rounds. CI runs all of them without it, too (make compute).
package race

// tenth is what Part leaves with the race detector.
const tenth = 10

// Part is how many of n rounds are done: all of them, or with the race detector a tenth.
func Part(n int) int {
	if Enabled {
		return max(1, n/tenth)
	}
	return n
}

// Step is how far it is from one case of a list to the next that is done: 1, or with the race detector some more.
func Step() int {
	if Enabled {
		return tenth - 3 // a prime, so that no regular list is met at one side only
	}
	return 1
}
