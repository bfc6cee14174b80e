package wire

import "strings"

// Covered tells whether a filter asks for nothing but allowed subjects.
func Covered(filter string, allowed []string) bool {
	for _, a := range allowed {
		if both, ok := Intersect(filter, a); ok && both == filter {
			return true
		}
	}
	return false
}

// Intersect is the filter of the subjects that two filters have in common.
func Intersect(a, b string) (string, bool) {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	var out []string
	for i := 0; ; i++ {
		switch {
		case i == len(x) && i == len(y):
			return strings.Join(out, "."), true
		case i == len(x) || i == len(y) || x[i] == "" || y[i] == "":
			return "", false
		case x[i] == ">" && i == len(x)-1:
			return strings.Join(append(out, y[i:]...), "."), true
		case y[i] == ">" && i == len(y)-1:
			return strings.Join(append(out, x[i:]...), "."), true
		case x[i] == "*":
			out = append(out, y[i])
		case y[i] == "*" || x[i] == y[i]:
			out = append(out, x[i])
		default:
			return "", false
		}
	}
}
