package flow

import "time"

// again is how often the same is said.
const again = time.Minute

// Due reports whether something may be said again, and notes that it is. said is when it was last said.
func Due(said *time.Time, now time.Time) bool {
	if now.Sub(*said) < again {
		return false
	}
	*said = now
	return true
}
