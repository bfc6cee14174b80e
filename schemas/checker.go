package schemas

import (
	"context"
	"errors"
	"math"
	"net/url"
	"strconv"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// checker is a schema that is compiled twice. Nodes accept a good payload in no time. The library says what is wrong with a
// bad one, and checks alone what has a keyword that nodes don't support. Both have a budget.
type checker struct {
	quick *node  // nil: the schema has a keyword that nodes lack
	lacks string // which
	full  *document
}

// compile makes a checker of the schema at a URL. Every schema that it refers to comes from the
// loader; texts is filled by whoever loads.
func compile(loader jsonschema.URLLoader, at string, t texts, p *patterns) (made *checker, err error) {
	m := &meter{work: newWork(compileSteps)}
	if !m.within(func() { made, err = compileWith(m, loader, at, t, p) }) {
		return nil, errors.New("takes more steps to compile than are allowed; make it simpler")
	}
	return made, err
}

// compileSteps bounds the work of compiling that is counted; see patterns for what is not.
const compileSteps = 16 << 20

func compileWith(m *meter, loader jsonschema.URLLoader, at string, t texts, p *patterns) (*checker, error) {
	recorder := &recorder{loader: loader}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(recorder)
	c.UseRegexpEngine(p.engine(m))
	s, err := c.Compile(at)
	if err != nil {
		return nil, err
	}
	quick, lacks := newNode(s)
	g := newGraph(s)
	for _, place := range recorder.anchors() {
		// A $dynamicRef may lead there though nothing else does. What is no schema there is not used.
		if anchored, err := c.Compile(place); err == nil {
			g.add(anchored)
		}
	}
	if err := g.measure(m); err != nil {
		return nil, err
	}
	return &checker{quick, lacks, newDocument(s, t, m)}, nil
}

// recorder remembers what a compiler has loaded.
type recorder struct {
	loader jsonschema.URLLoader
	loaded texts
}

func (r *recorder) Load(at string) (any, error) {
	text, err := r.loader.Load(at)
	if err == nil {
		if r.loaded == nil {
			r.loaded = texts{}
		}
		r.loaded[at] = text
	}
	return text, err
}

// anchors lists the places with a $dynamicAnchor.
func (r *recorder) anchors() []string {
	var places []string
	for at, text := range r.loaded {
		eachPlace(text, "", func(place string, v any) {
			if _, ok := child(v, "$dynamicAnchor").(string); ok {
				places = append(places, at+"#"+(&url.URL{Path: place}).EscapedPath())
			}
		})
	}
	return places
}

// eachPlace calls back for every object in a JSON value, with its pointer.
func eachPlace(v any, at string, found func(at string, v any)) {
	switch v := v.(type) {
	case map[string]any:
		found(at, v)
		for name, sub := range v {
			switch sub.(type) {
			case map[string]any, []any:
				eachPlace(sub, at+"/"+pointerEscaper.Replace(name), found)
			}
		}
	case []any:
		for i, sub := range v {
			switch sub.(type) {
			case map[string]any, []any:
				eachPlace(sub, at+"/"+strconv.Itoa(i), found)
			}
		}
	}
}

// check returns nil, an *Error about the value at i, or the context's error.
func (c *checker) check(ctx context.Context, t *tape, i uint32) error {
	if c.quick == nil {
		return c.full.check(ctx, t.rawAt(i), librarySteps)
	}
	t.ctx = ctx
	valid := c.quick.valid(t, i)
	unsure := t.unsure
	t.unsure, t.ctx = false, nil
	if t.over() {
		return t.ended(ctx)
	}
	if valid && !unsure {
		return nil
	}
	if unsure {
		return c.full.check(ctx, t.rawAt(i), librarySteps)
	}
	err := c.full.check(ctx, t.rawAt(i), librarySteps/2)
	if e := (*Error)(nil); errors.As(err, &e) && e.Overrun { // nodes have refused it, so it is wrong
		e.Details = []Detail{{Message: "breaks the schema; where takes too many steps to find out"}}
		return e
	}
	if err == nil {
		// A defect: the two disagree. What one of them refuses does not pass.
		return unexplained("breaks the schema")
	}
	return err
}

// boundless are the limits for a payload that has passed Guard before, or need not.
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
