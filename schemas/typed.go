package schemas

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"fleetbridge/internal/plainfile"
	"fleetbridge/mapping"
)

// schema is the object that has these members, as JSON Schema. Nothing is required, and others are allowed.
func (f fields) schema() map[string]any {
	properties := map[string]any{}
	for name, d := range f {
		s := maps.Clone(d.schema)
		if d.unit != "" {
			s["description"] = "in " + d.unit
		}
		properties[name] = s
	}
	return map[string]any{"type": "object", "properties": properties}
}

// Files are the schemas as LoadThing reads them from a directory: the content by the path.
func (t *ThingType) Files() map[string][]byte {
	out := map[string][]byte{}
	put := func(path string, schema map[string]any) {
		schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
		text, err := json.MarshalIndent(schema, "", "  ")
		if err != nil {
			panic(fmt.Sprintf("schemas: a Thing Type that can't be printed: %v", err)) // it came from JSON
		}
		out[path] = append(text, '\n')
	}
	if len(t.properties) > 0 {
		put("reported"+suffix, fields(t.properties).schema())
	}
	for name, payloads := range t.events {
		schema := payloads[0].schema()
		if len(payloads) > 1 {
			each := make([]any, len(payloads))
			for i, p := range payloads {
				each[i] = p.schema()
			}
			schema = map[string]any{"anyOf": each}
		}
		put("events/"+mapping.Token(name)+suffix, schema)
	}
	for action, input := range t.inputs {
		put("commands/"+mapping.Token(action)+suffix, input.schema())
	}
	return out
}

// LoadThingType reads a Thing Type from a file and makes a Thing's schemas of it. What is wrong with it is told at
// once, one *FileError for each problem, joined.
func (c *Catalog) LoadThingType(path string) (*ThingSchemas, *ThingType, error) {
	plain, err := plainfile.Read(path, "Thing Type", MaxFileBytes)
	if err != nil {
		return nil, nil, &FileError{path, 0, Detail{Message: cause(err)}}
	}
	return c.MakeThingType(path, plain.Data)
}

// MakeThingType makes a Thing's schemas of a Thing Type as JSON. Its errors are those of LoadThingType, and name the path.
func (c *Catalog) MakeThingType(path string, data []byte) (*ThingSchemas, *ThingType, error) {
	t, err := ReadThingType(data)
	if e := (*Error)(nil); errors.As(err, &e) {
		all := make([]error, len(e.Details))
		for i, d := range e.Details {
			line := 0
			if e.Code != CodeSchema {
				line = lineAt(data, e.Offset)
			}
			all[i] = &FileError{path, line, d}
		}
		return nil, nil, errors.Join(all...)
	}
	if err != nil {
		return nil, nil, err
	}
	own, err := c.compileThingType(path, t)
	return own, t, err
}

func (c *Catalog) compileThingType(path string, t *ThingType) (*ThingSchemas, error) {
	f := newFolder(filepath.Dir(path))
	out := &ThingSchemas{scanners: c.scanners, events: map[string]*checker{}, commands: map[string]*checker{},
		results: map[string]*checker{}, units: map[*checker]map[string]string{}, severities: t.severities, readOnly: map[string]bool{}}
	if n := t.schemas(); n > maxFolderFiles {
		return nil, &FileError{path, 0, Detail{Message: fmt.Sprintf("has %d events, inputs and outputs of commands, at most %d are allowed; declare less", n, maxFolderFiles)}}
	}
	compile := func(name string, of fields) *checker {
		text, err := json.Marshal(of.schema())
		if err != nil {
			panic(fmt.Sprintf("schemas: a Thing Type that can't be printed: %v", err)) // it came from JSON
		}
		if f.put(name, text); len(f.problems) > 0 {
			return nil
		}
		checker := f.compile(name)
		units := map[string]string{}
		for name, d := range of {
			if d.unit != "" {
				units[pointerEscaper.Replace(name)] = d.unit
			}
		}
		out.units[checker] = units
		return checker
	}
	if len(t.properties) > 0 {
		out.reported = compile("properties", t.properties)
	}
	for _, name := range slices.Sorted(maps.Keys(t.events)) {
		for i, payload := range t.events[name] {
			key := eventKey(t.severities[name][i], name)
			out.events[key] = compile("events/"+eventKey(t.severities[name][i], mapping.Token(name)), payload)
		}
	}
	for _, action := range slices.Sorted(maps.Keys(t.inputs)) {
		out.commands[action] = compile("commands/"+mapping.Token(action)+"/input", t.inputs[action])
		out.results[action] = compile("commands/"+mapping.Token(action)+"/output", t.outputs[action])
	}
	for name, d := range t.properties {
		if d.readOnly {
			out.readOnly[name] = true
		}
	}
	if len(f.problems) > 0 {
		first := f.problems[0]
		part, _ := filepath.Rel(f.dir, first.File)
		why := first.Detail.Message
		if _, after, ok := strings.Cut(why, " can't be used: "); ok {
			why = strings.TrimSuffix(after, "; split it")
		}
		return nil, &FileError{path, 0, Detail{"/" + shorten(filepath.ToSlash(part), maxPart), "is too much, declare less: as JSON Schema " + why}}
	}
	return out, nil
}

// schemas counts the schemas that it becomes.
func (t *ThingType) schemas() (n int) {
	if len(t.properties) > 0 {
		n = 1
	}
	for _, payloads := range t.events {
		n += len(payloads)
	}
	return n + 2*len(t.inputs)
}

// eventKey is under which name a Thing Type's schemas have an event.
func eventKey(severity, name string) string { return severity + "/" + name }

// checkSeverity holds an event's severity against the Thing Type's, by the name of its type.
func (t *ThingSchemas) checkSeverity(s *scanner, name uint32) error {
	severity := s.member(0, "severity")
	if len(t.severities) == 0 || severity == 0 {
		return nil
	}
	known := t.severities[string(s.textAt(name))]
	if said := string(s.textAt(severity)); known != nil && !slices.Contains(known, said) {
		return oneDetail("/severity", fmt.Sprintf("%q is not the severity that the Thing Type gives this event, use %s", shorten(said, maxPart), strings.Join(known, " or ")))
	}
	return nil
}

// CheckResult checks the response to a command with this action. Pointers begin at the payload. The error is an *Error
// or the context's.
func (t *ThingSchemas) CheckResult(ctx context.Context, action string, payload []byte) error {
	if t == nil {
		return nil
	}
	if err := t.also.CheckResult(ctx, action, payload); err != nil {
		return err
	}
	c := t.results[action]
	if c == nil || len(bytes.TrimSpace(payload)) == 0 {
		return nil
	}
	s := t.scanners.get()
	defer t.scanners.put(s)
	if err := s.scan(payload, boundless); err != nil {
		return err
	}
	result := s.member(0, "result")
	if result == 0 || s.tokens[result].is == typeNull {
		return nil // a response may do without
	}
	return Under(PartResult, t.inUnits(c, c.check(ctx, &s.tape, result)))
}

// HasReadOnly reports whether NotWritable knows any.
func (t *ThingSchemas) HasReadOnly() bool { return t != nil && len(t.readOnly) > 0 }

// NotWritable are the members of state.desired or of a delta's state that the Thing Type does not let the cloud set, in
// the order of their names.
func (t *ThingSchemas) NotWritable(names []string) (out []string) {
	if t == nil {
		return nil
	}
	for _, name := range names {
		if t.readOnly[name] {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// inUnits adds the units of the values that an error is about.
func (t *ThingSchemas) inUnits(c *checker, err error) error {
	if err == nil || len(t.units[c]) == 0 {
		return err
	}
	e := (*Error)(nil)
	if !errors.As(err, &e) {
		return err
	}
	for i, d := range e.Details {
		if unit := t.units[c][strings.TrimPrefix(d.Pointer, "/")]; unit != "" {
			e.Details[i].Message += " (in " + unit + ")"
		}
	}
	return e
}

// With returns schemas that check what both check.
func (t *ThingSchemas) With(others *ThingSchemas) *ThingSchemas {
	if t == nil || others == nil {
		if t == nil {
			return others
		}
		return t
	}
	both := *t
	both.also = others
	return &both
}
