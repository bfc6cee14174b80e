//go:build unix && !linux

package conform

// session lists nothing: there is no way that is the same everywhere.
func session(int) []int { return nil }
