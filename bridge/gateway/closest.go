package gateway

import "strings"

// Closest finds the known word that somebody who wrote word most likely meant: it begins like it, or
// few letters would have to change, a third of them and at least two. It is empty when none is near.
func Closest(word string, known []string) string {
	best, least := "", max(2, len(word)/3)+1
	if len(word) < 3 {
		least = 2
	}
	for _, k := range known {
		if len(k) > 2 && len(word) > 2 && (strings.HasPrefix(word, k) || strings.HasPrefix(k, word)) {
			best = k
		}
	}
	folded := strings.ReplaceAll(strings.ToLower(word), "-", "_")
	for _, k := range known {
		if d := distance(folded, strings.ReplaceAll(strings.ToLower(k), "-", "_")); d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, change or swap with the next one.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	var d [65][65]int
	for i := range len(a) + 1 {
		for j := range len(b) + 1 {
			switch {
			case i == 0:
				d[i][j] = j
			case j == 0:
				d[i][j] = i
			default:
				change := d[i-1][j-1]
				if a[i-1] != b[j-1] {
					change++
				}
				d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, change)
				if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
					d[i][j] = min(d[i][j], d[i-2][j-2]+1)
				}
			}
		}
	}
	return d[len(a)][len(b)]
}
