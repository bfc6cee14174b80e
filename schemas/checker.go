package schemas

import (
	"math"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// checker is a compiled schema, twice: nodes say yes to a good payload in no time, the library says
// what is wrong with a bad one. What nodes do not know is the library's alone.
type checker struct {
	quick *node  // nil: the schema has a keyword that nodes lack
	lacks string // which
	full  *document
}

// compile makes a checker of the schema at a URL. Every schema that it refers to comes from the
// loader; texts is filled by whoever loads.
func compile(loader jsonschema.URLLoader, at string, t texts) (*checker, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(loader)
	s, err := c.Compile(at)
	if err != nil {
		return nil, err
	}
	quick, lacks := newNode(s)
	pinNames(s, map[*jsonschema.Schema]bool{})
	return &checker{quick, lacks, &document{s, t}}, nil
}

// check returns nil or an *Error about the value at i.
func (c *checker) check(t *tape, i uint32) error {
	if c.quick == nil {
		return c.full.check(t.rawAt(i))
	}
	valid := c.quick.valid(t, i)
	unsure := t.unsure
	t.unsure = false
	if valid && !unsure {
		return nil
	}
	err := c.full.check(t.rawAt(i))
	if err == nil && !unsure {
		// A defect: the two disagree. What one of them refuses does not pass.
		return refuse([]Detail{{Message: "breaks the schema"}})
	}
	return err
}

// boundless are the limits of what has been guarded before, or need not be.
var boundless = Limits{MaxBytes: math.MaxInt32, MaxDepth: 10_000}

// scanners are those not in use, ready with the memory of their last payload.
type scanners struct{ pool sync.Pool }

// maxKept bounds the tokens and bytes that an idle scanner keeps.
const maxKept = 16 << 10

func (p *scanners) get() *scanner {
	if s, ok := p.pool.Get().(*scanner); ok {
		return s
	}
	return &scanner{tape: tape{tokens: make([]token, 0, 128)}, open: make([]frame, 0, 16)}
}

// put takes a scanner back. Nothing of its tape may be used any more.
func (p *scanners) put(s *scanner) {
	if cap(s.tokens) > maxKept || cap(s.plain) > maxKept || cap(s.names.slots) > maxKept {
		return
	}
	s.src = nil
	p.pool.Put(s)
}
