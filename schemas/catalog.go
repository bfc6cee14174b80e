package schemas

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"fleetbridge/mapping"
)

//go:embed *.schema.json
var embedded embed.FS

const suffix = ".schema.json"

// ShadowDocument names the schema of the one payload that is no channel's: the shadow as the Fleets
// HTTP API returns it.
const ShadowDocument = "shadow.document"

// Options are the bounds of every payload; 0 means the default of Limits.
type Options struct {
	MaxBytes int
	MaxDepth int
}

// Catalog checks payloads against the schemas of the protocol's channels.
type Catalog struct {
	*builtIn
	limits   Limits
	scanners *scanners
}

// builtIn are the embedded schemas.
type builtIn struct {
	names    []string
	channels map[string]*channel
}

type channel struct {
	source   []byte
	keywords keywords
	checker  *checker
	emptyOK  bool
}

// New makes a catalog of the embedded schemas, which are compiled once. An error is a defect of this package.
func New(opts Options) (*Catalog, error) {
	b, err := compiled()
	if err != nil {
		return nil, err
	}
	return &Catalog{builtIn: b, limits: Limits(opts).orDefault(), scanners: &scanners{}}, nil
}

var compiled = sync.OnceValues(func() (*builtIn, error) {
	b := &builtIn{channels: map[string]*channel{}}
	for _, r := range mapping.Routes() {
		if err := b.add(string(r.Channel), r.EmptyOK); err != nil {
			return nil, err
		}
	}
	return b, b.add(ShadowDocument, false)
})

func (b *builtIn) add(name string, emptyOK bool) error {
	source, err := embedded.ReadFile(name + suffix)
	if err != nil {
		return fmt.Errorf("channel %s has no schema: %w", name, err)
	}
	text, err := jsonschema.UnmarshalJSON(bytes.NewReader(source))
	if err != nil {
		return fmt.Errorf("schema of %s: %w", name, err)
	}
	object, _ := text.(map[string]any)
	at, _ := object["$id"].(string)
	loaded := texts{at: text}
	checker, err := compile(loaded, at, loaded, newPatterns())
	if err != nil {
		return fmt.Errorf("schema of %s: %w", name, err)
	}
	b.names = append(b.names, name)
	b.channels[name] = &channel{source, object, checker, emptyOK}
	return nil
}

// Load makes texts the only source of the compiler: no file, no network.
func (t texts) Load(at string) (any, error) {
	if text, ok := t[at]; ok {
		return text, nil
	}
	return nil, errors.New("schemas are not fetched from anywhere")
}

// Names lists the schemas: the channels in the order of the routes, then ShadowDocument.
func (c *Catalog) Names() []string { return slices.Clone(c.names) }

// Source is the text of a schema, nil for a name that has none. The caller owns it.
func (c *Catalog) Source(name string) []byte {
	if ch, ok := c.channels[name]; ok {
		return slices.Clone(ch.source)
	}
	return nil
}

// Guard is the package's Guard with the catalog's limits. A good payload of ordinary size costs no
// allocation.
func (c *Catalog) Guard(payload []byte) error {
	s := c.scanners.get()
	defer c.scanners.put(s)
	return s.scan(payload, c.limits)
}

// TooLarge is what Check says of a payload of so many bytes, for who does not have the whole of it. The error is an
// *Error.
func (c *Catalog) TooLarge(size int) error { return c.limits.tooLarge(size) }

// Check guards a payload and holds it against a schema, by the name of its channel. It returns nil,
// an *Error, the context's error, or a plain error when there is no such schema. A payload of no bytes passes where the
// channel allows it. A good payload of ordinary size costs no allocation.
func (c *Catalog) Check(ctx context.Context, name string, payload []byte) error {
	ch, ok := c.channels[name]
	if !ok {
		return fmt.Errorf("no schema %q, use one of %s", name, strings.Join(c.names, ", "))
	}
	if len(payload) == 0 && ch.emptyOK {
		return nil
	}
	s := c.scanners.get()
	defer c.scanners.put(s)
	if err := s.scan(payload, c.limits); err != nil {
		return err
	}
	return ch.checker.check(ctx, &s.tape, 0)
}
