package schemas

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"fleetbridge/mapping"
)

// The parts of a payload that a Thing's own schemas speak of, for Under.
const (
	PartReported = "/state/reported" // of a shadow report
	PartData     = "/data"           // of an event
	PartParams   = "/params"         // of a command request
	PartResult   = "/result"         // of a command response
)

// ThingSchemas are the schemas that a Thing brings. What has none passes, and everything passes a
// nil *ThingSchemas.
type ThingSchemas struct {
	scanners *scanners
	reported *checker
	events   map[string]*checker // of a Thing Type: by eventKey
	commands map[string]*checker

	// Of a Thing Type only.
	results    map[string]*checker
	severities map[string][]string            // of events, by their type
	readOnly   map[string]bool                // properties
	units      map[*checker]map[string]string // of the members that a checker knows, by their reference token
	also       *ThingSchemas                  // what holds, too
}

// Check checks the part of a channel's payload that the Thing's own schemas speak of: state.reported,
// data or params. The payload has passed Catalog.Check. Pointers begin at the payload. Channels without
// such a part pass. The error is an *Error or the context's.
func (t *ThingSchemas) Check(ctx context.Context, channel string, payload []byte) error {
	if t == nil {
		return nil
	}
	if err := t.also.Check(ctx, channel, payload); err != nil {
		return err
	}
	switch mapping.Channel(channel) {
	case mapping.ShadowReport:
		return t.checkReport(ctx, payload)
	case mapping.Event:
		return t.checkNamed(ctx, t.events, payload, [2]string{"eventType", PartData})
	case mapping.CommandRequest:
		return t.checkNamed(ctx, t.commands, payload, [2]string{"action", PartParams})
	}
	return nil
}

func (t *ThingSchemas) checkReport(ctx context.Context, payload []byte) error {
	if t.reported == nil {
		return nil
	}
	s := t.scanners.get()
	defer t.scanners.put(s)
	if err := s.scan(payload, boundless); err != nil {
		return err
	}
	reported := uint32(0)
	if state := s.member(0, "state"); state != 0 {
		reported = s.member(state, "reported")
	}
	if reported == 0 || s.tokens[reported].is == typeNull {
		return Under(PartReported, t.checkPart(ctx, t.reported, nil))
	}
	if s.nulls { // a null deletes, it is no value
		return Under(PartReported, t.checkPart(ctx, t.reported, mapping.Merge(nil, s.rawAt(reported))))
	}
	return Under(PartReported, t.inUnits(t.reported, t.reported.check(ctx, &s.tape, reported)))
}

// checkNamed checks a part of a payload with the schema that goes by the name in a member; at is that
// member and the part.
func (t *ThingSchemas) checkNamed(ctx context.Context, schemas map[string]*checker, payload []byte, at [2]string) error {
	if len(schemas) == 0 {
		return nil
	}
	member, part := at[0], at[1]
	s := t.scanners.get()
	defer t.scanners.put(s)
	if err := s.scan(payload, boundless); err != nil {
		return err
	}
	name := s.member(0, member)
	if name == 0 {
		return nil
	}
	if part == PartData {
		if err := t.checkSeverity(s, name); err != nil {
			return err
		}
	}
	key := string(s.textAt(name))
	if severity := s.member(0, "severity"); part == PartData && t.severities != nil && severity != 0 {
		key = eventKey(string(s.textAt(severity)), key)
	}
	c := schemas[key]
	if c == nil {
		return nil
	}
	i := s.member(0, part[1:])
	if i == 0 || s.tokens[i].is == typeNull {
		return Under(part, t.checkPart(ctx, c, nil))
	}
	return Under(part, t.inUnits(c, c.check(ctx, &s.tape, i)))
}

// checkPart checks a part by itself; pointers begin at the part. One of no bytes is checked as {}.
func (t *ThingSchemas) checkPart(ctx context.Context, c *checker, raw []byte) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		raw = []byte("{}")
	}
	s := t.scanners.get()
	defer t.scanners.put(s)
	if err := s.scan(raw, boundless); err != nil {
		return err
	}
	return t.inUnits(c, c.check(ctx, &s.tape, 0))
}

// LoadThing reads a Thing's schemas from a directory: reported.schema.json, events/{type}.schema.json
// and commands/{action}.schema.json, each optional, the names spelled as tokens. A schema may refer
// to any JSON file in the directory, by its path or by its $id, and to nothing else. Names that begin
// with a dot are ignored, and so is every file that does not end in .json. The format keyword only
// documents, as draft 2020-12 has it.
//
// The error has everything that is wrong with the directory: one *FileError for each problem, joined.
func (c *Catalog) LoadThing(dir string) (*ThingSchemas, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("schema directory %s: %w", dir, errors.Unwrap(err))
	} else if !info.IsDir() {
		return nil, fmt.Errorf("schema directory %s: is a file, name the directory that holds reported.schema.json, events/ and commands/", dir)
	}
	f := newFolder(dir)
	f.read(".", 0)
	t := &ThingSchemas{scanners: c.scanners, events: map[string]*checker{}, commands: map[string]*checker{}}
	for _, path := range f.paths() {
		switch group, name, err := place(path); {
		case err != nil:
			f.problem(path, 0, Detail{Message: err.Error()})
			f.files[path].used = true
		case group == "reported":
			t.reported = f.compile(path)
		case group == "events":
			t.events[name] = f.compile(path)
		case group == "commands":
			t.commands[name] = f.compile(path)
		}
	}
	for _, path := range f.paths() {
		if !f.files[path].used && !f.full() {
			f.problem(path, 0, Detail{Message: "nothing reads this file; name it reported.schema.json, events/{type}.schema.json or " +
				"commands/{action}.schema.json, or refer to it with $ref"})
		}
	}
	if len(f.problems) > 0 {
		return nil, f.err()
	}
	return t, nil
}

// place tells what a file is for: its group and, within it, the name of an event type or an action.
// A file that only others can refer to has no group.
func place(path string) (group, name string, err error) {
	if path == "reported"+suffix {
		return "reported", "", nil
	}
	group, file, ok := strings.Cut(path, "/")
	token, isSchema := strings.CutSuffix(file, suffix)
	if !ok || !isSchema || strings.Contains(file, "/") || group != "events" && group != "commands" {
		return "", "", nil
	}
	name, err = mapping.Untoken(token)
	if err == nil && group == "events" {
		err = mapping.CheckID(name)
	}
	if err != nil {
		what := "an event type"
		if group == "commands" {
			what = "an action"
		}
		return "", "", fmt.Errorf("the file's name is not %s spelled as a token: %w", what, err)
	}
	return group, name, nil
}

// FileError is one problem of a schema directory.
type FileError struct {
	File   string // its path, the directory included
	Line   int    // from 1; 0: the file as a whole
	Detail Detail
}

func (e *FileError) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Detail.String()
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Detail)
}

// err joins the problems in the order of files and lines; those that several schemas ran into are
// told once.
func (f *folder) err() error {
	slices.SortFunc(f.problems, func(a, b *FileError) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Error(), b.Error()))
	})
	var all []error
	last := ""
	if f.full() {
		all = append(all, fmt.Errorf("%s: more than %d problems, mend the first ones", f.dir, maxProblems))
	}
	for _, p := range f.problems {
		if p.Error() != last {
			all = append(all, p)
		}
		last = p.Error()
	}
	return errors.Join(all...)
}
