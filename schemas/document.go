package schemas

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// document asks the jsonschema library about a decoded payload, one payload at a time.
type document struct {
	schema *jsonschema.Schema
	texts  texts
	meter  *meter
	turn   chan struct{} // holds the meter while nobody uses it
}

func newDocument(s *jsonschema.Schema, t texts, m *meter) *document {
	d := &document{s, t, m, make(chan struct{}, 1)}
	d.turn <- struct{}{}
	return d
}

// check returns nil, an *Error, or the context's error. The payload has passed Guard.
// The check may take so many steps.
func (d *document) check(ctx context.Context, payload []byte, steps int) error {
	select {
	case <-d.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() {
		d.meter.work = work{}
		d.turn <- struct{}{}
	}()
	var value any
	var err error
	enough := d.meter.within(func() {
		d.meter.begin(ctx, payload, steps)
		// Numbers stay as they were written: json.Number, not float64.
		if value, err = jsonschema.UnmarshalJSON(bytes.NewReader(payload)); err != nil {
			err = &Error{Code: CodeJSON, Details: []Detail{{Message: "is no JSON: " + err.Error()}}}
			return
		}
		err = d.schema.Validate(value)
	})
	if !enough {
		return d.meter.ended(ctx)
	}
	var broken *jsonschema.ValidationError
	if errors.As(err, &broken) {
		return d.explain(ctx, broken, value)
	}
	return err
}

// explain says what is wrong. It always returns an error, because the library has refused the payload.
func (d *document) explain(ctx context.Context, broken *jsonschema.ValidationError, value any) (err error) {
	enough := d.meter.within(func() {
		d.meter.work = newWork(explainSteps)
		d.meter.ctx = ctx
		err = refuse(explain(d.meter, broken, value, d.texts))
	})
	switch {
	case !enough && ctx.Err() != nil:
		return ctx.Err()
	case !enough:
		return unexplained("is wrong in too many ways to name")
	case err == nil:
		return unexplained("breaks the schema")
	}
	return err
}

func unexplained(message string) error {
	return &Error{Code: CodeSchema, Details: []Detail{{Message: message}}}
}

// texts are decoded schema files by URL, for messages that say what was expected.
type texts map[string]any

// keywords finds a schema object by its location, "file#/properties/state". It is nil when there is
// none, or when the schema is true or false.
func (t texts) keywords(location string) keywords {
	file, fragment, _ := strings.Cut(location, "#")
	fragment, err := url.PathUnescape(fragment)
	if err != nil {
		return nil
	}
	k, _ := lookup(t[file], strings.Split(fragment, "/")[1:]).(map[string]any)
	return k
}

// lookup follows the tokens of a JSON Pointer.
func lookup(v any, tokens []string) any {
	for _, token := range tokens {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		v = child(v, token)
	}
	return v
}
