package gateway

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one finding about a configuration: where, and what to do about it. It never holds a
// secret.
type Problem struct {
	File string
	// Line and Column count from 1; 0: the whole file.
	Line, Column int
	// Path is the key, things[0].name; empty: the whole file.
	Path    string
	Message string
}

// String is "gw.yaml:12:5: mqtt.keep_alive: …".
func (p Problem) String() string {
	s := p.File
	if p.Line > 0 {
		s = fmt.Sprintf("%s:%d:%d", s, p.Line, p.Column)
	}
	if p.Path != "" {
		s += ": " + p.Path
	}
	return strings.TrimPrefix(s+": "+p.Message, ": ") // the file may have no name
}

// Problems is the error of Load: everything that is wrong, in the order of the file.
type Problems []Problem

// Error has one line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

type position struct{ line, column int }

// report collects findings and knows where each key stands in the file.
type report struct {
	file      string
	positions map[string]position
	problems  Problems
	warnings  []Problem
	files     watchlist
}

// watch takes note of a file that is about to be read.
func (r *report) watch(path string) { r.files.add(root{path: path}) }

func (r *report) place(path string, p position) {
	if r.positions == nil {
		r.positions = map[string]position{}
	}
	r.positions[path] = p
}

// problem notes what is wrong with a key. One problem for each key is enough: what was found first
// stands, so a value that could not be decoded is not reported as missing too.
func (r *report) problem(path, format string, args ...any) {
	for _, p := range r.problems {
		if p.Path == path && path != "" {
			return
		}
	}
	r.problems = append(r.problems, r.finding(path, format, args...))
}

// each notes every error that err joins; nil is none.
func (r *report) each(path string, err error) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if err != nil {
			r.problem(path, "%s", err)
		}
		return
	}
	for _, e := range joined.Unwrap() {
		r.problems = append(r.problems, r.finding(path, "%s", e))
	}
}

func (r *report) warn(path, format string, args ...any) {
	r.warnings = append(r.warnings, r.finding(path, format, args...))
}

// broken tells whether a problem of the key, of one inside it or of one around it was reported: what
// it holds then is not what the file meant.
func (r *report) broken(path string) bool {
	return r.misshapen(path) || slices.ContainsFunc(r.problems, func(p Problem) bool { return within(p.Path, path) })
}

// misshapen tells whether a problem of the key itself, or of one around it, was reported.
func (r *report) misshapen(path string) bool {
	return slices.ContainsFunc(r.problems, func(p Problem) bool { return within(path, p.Path) })
}

// within tells whether a path is another one or lies inside it; everything lies inside the empty one.
func within(path, other string) bool {
	rest, ok := strings.CutPrefix(path, other)
	return ok && (rest == "" || other == "" || rest[0] == '.' || rest[0] == '[')
}

// set tells whether the file has the key.
func (r *report) set(path string) bool {
	_, ok := r.positions[path]
	return ok
}

// finding places a message at the key or, for a missing key, at the nearest one around it.
func (r *report) finding(path, format string, args ...any) Problem {
	p := Problem{File: r.file, Path: path, Message: oneLine(fmt.Sprintf(format, args...))}
	for at := path; at != ""; at = at[:max(strings.LastIndexAny(at, ".["), 0)] {
		if pos, ok := r.positions[at]; ok {
			p.Line, p.Column = pos.line, pos.column
			break
		}
	}
	return p
}

// err sorts what was found; nil when nothing is wrong.
func (r *report) err() error {
	inOrder(r.problems)
	inOrder(r.warnings)
	if len(r.problems) == 0 {
		return nil
	}
	return r.problems
}

func inOrder(ps []Problem) {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// oneLine keeps a message on its line, whatever a library's error holds.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
