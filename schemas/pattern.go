package schemas

import (
	"fmt"
	"regexp"
	"regexp/syntax"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Bounds of regular expressions. Matching takes, at worst, time for each byte of the text times each
// instruction of the program, and can't be stopped; so its cost is known, and paid before.
const (
	maxProgram  = 10_000  // instructions of one expression; a{1,1000} has 2000
	maxPrograms = 200_000 // of all in a directory, some 10 MB
	// instructionsPerStep is how many instructions, each for a byte, cost as much as a step.
	instructionsPerStep = 4
)

// expression is a regular expression of a schema. The library pays by the meter, nodes by the tape.
type expression struct {
	*regexp.Regexp
	size  int
	meter *meter
}

// cost is how many steps a match of n bytes takes at worst.
func (x *expression) cost(n int) int { return 1 + n*x.size/instructionsPerStep }

func (x *expression) MatchString(s string) bool {
	x.meter.spend(x.cost(len(s)))
	return x.Regexp.MatchString(s)
}

// match is Match at the tape's expense. Its answer is worth nothing when that is over.
func (x *expression) match(t *tape, text []byte) bool {
	if t.spend(x.cost(len(text))); t.over() {
		return false
	}
	return x.Match(text)
}

// patterns compiles each expression of a directory once.
type patterns struct {
	known map[string]expression
	total int
}

func newPatterns() *patterns { return &patterns{known: map[string]expression{}} }

// expressionSizeError is an expression beyond the bounds.
type expressionSizeError string

func (e expressionSizeError) Error() string { return string(e) }

// engine compiles for one checker.
func (p *patterns) engine(m *meter) jsonschema.RegexpEngine {
	return func(text string) (jsonschema.Regexp, error) {
		x, ok := p.known[text]
		if !ok {
			tree, err := syntax.Parse(text, syntax.Perl)
			if err != nil {
				return nil, err
			}
			size := programSize(tree)
			if size > maxProgram {
				return nil, expressionSizeError(fmt.Sprintf("has %d instructions, at most %d are allowed; repeat less", size, maxProgram))
			}
			if p.total += size; p.total > maxPrograms {
				return nil, expressionSizeError(fmt.Sprintf("is one too many: all in the directory may have %d instructions together", maxPrograms))
			}
			if x.Regexp, err = regexp.Compile(text); err != nil {
				return nil, err
			}
			x.size = size
			p.known[text] = x
		}
		x.meter = m
		return &x, nil
	}
}

// programSize is about how many instructions an expression will have, known before they are made. It
// stops counting where it is too many anyway.
func programSize(re *syntax.Regexp) int {
	size := 1
	for _, sub := range re.Sub {
		if size += programSize(sub); size > maxProgram {
			break
		}
	}
	switch re.Op {
	case syntax.OpRepeat:
		size *= max(re.Min, re.Max, 1)
	case syntax.OpLiteral:
		size += len(re.Rune)
	case syntax.OpCharClass:
		size += len(re.Rune) / 16
	}
	return min(size, 1<<30)
}
