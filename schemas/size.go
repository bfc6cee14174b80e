package schemas

import "fmt"

// Bounds of a Thing's schema files: far more than a device has, far less than hurts. The library's
// compiler takes time for the square of a schema's parts, and memory for each part and each pointer to
// one; and files that others refer to are compiled again for each of them.
const (
	MaxFileBytes     = 1 << 20 // of a file
	maxFolderBytes   = 8 << 20
	maxFolderFiles   = 1000
	maxFolderLevels  = 8    // a link to a parent directory would be endless
	maxFolderEntries = 4096 // in all of them
	maxPart          = 2 << 10
	maxProblems      = 100
)

// size is what matters of a schema's text: how many objects and booleans it has, each of which may be
// a schema, how many values of any kind, and how many bytes the pointers to its parts take.
type size struct{ parts, values, pointers int }

var (
	maxOne = size{3000, 50_000, 2 << 20}     // of a schema, with what it refers to
	maxAll = size{60_000, 500_000, 16 << 20} // of all schemas in a directory, each with what it refers to
)

func (s *size) add(o size) {
	s.parts += o.parts
	s.values += o.values
	s.pointers += o.pointers
}

// beyond says in which way a size is beyond another, "" if it is not.
func (s size) beyond(most size) string {
	switch {
	case s.parts > most.parts:
		return fmt.Sprintf("%d objects, true and false, at most %d are allowed", s.parts, most.parts)
	case s.values > most.values:
		return fmt.Sprintf("%d values, at most %d are allowed", s.values, most.values)
	case s.pointers > most.pointers:
		return fmt.Sprintf("%d bytes of names above them, at most %d are allowed", s.pointers, most.pointers)
	}
	return ""
}

// sizeOf measures a decoded text. long is the place of a part whose pointer is too long, "" if there
// is none.
func sizeOf(v any) (s size, long string) {
	var measure func(v any, above int, at []string)
	measure = func(v any, above int, at []string) {
		s.values++
		switch v := v.(type) {
		case bool:
			s.parts++
			s.pointers += above
		case map[string]any:
			s.parts++
			s.pointers += above
			for name, sub := range v {
				here := above + 1 + len(name)
				if here > maxPart {
					if long == "" {
						long = pointer(at...)
					}
					continue
				}
				measure(sub, here, below(at, name))
			}
		case []any:
			for _, sub := range v {
				measure(sub, above+5, at)
			}
		}
	}
	measure(v, 0, nil)
	return s, long
}
