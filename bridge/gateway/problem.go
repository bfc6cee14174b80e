package gateway

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Problem is one finding about a configuration: where, and what to do about it. It never holds a
// secret.
type Problem struct {
	File string
	// Line and Column count from 1; 0: the whole file, or the whole line.
	Line, Column int
	// Path is the key, things[0].name; empty: the whole file.
	Path    string
	Message string
}

// String is "gw.yaml:12:5: mqtt.keep_alive: …".
func (p Problem) String() string {
	s := p.File
	if p.Line > 0 {
		s = fmt.Sprintf("%s:%d", s, p.Line)
	}
	if p.Line > 0 && p.Column > 0 {
		s = fmt.Sprintf("%s:%d", s, p.Column)
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

type position struct {
	file         string
	line, column int
}

// maxProblems is how many findings are noted: more help nobody, and a file can have half a million.
const maxProblems = 1000

// report collects findings and knows where each key stands. The paths of what stands in a file of things_dir
// begin with that file's prefix, as in parts[0].things[3].name; people see things[3].name and the file.
type report struct {
	file      string
	parts     map[string]string      // by prefix: the other files
	infos     map[string]fs.FileInfo // by file; of those that were read
	positions map[string]position
	problems  Problems
	warnings  []Problem
	more      int             // problems beyond maxProblems
	wrong     map[string]bool // paths with a problem
	around    map[string]bool // paths with a problem of their own or inside
	secrets   []string        // paths of secrets that stand in a file as they are
	files     watchlist
}

func newReport(file string) *report {
	return &report{file: file, parts: map[string]string{}, infos: map[string]fs.FileInfo{}, positions: map[string]position{},
		wrong: map[string]bool{}, around: map[string]bool{}}
}

// watch takes note of a file that is about to be read.
func (r *report) watch(path string) { r.files.add(root{path: path}) }

func (r *report) place(path string, p position) {
	p.file = r.fileOf(path)
	r.positions[path] = p
}

// fileOf is the file that a path is about, and shown the path in it.
func (r *report) fileOf(path string) string { file, _ := r.shown(path); return file }

func (r *report) shown(path string) (file, within string) {
	prefix, rest, _ := strings.Cut(path, ".")
	if file, ok := r.parts[prefix]; ok {
		return file, rest
	}
	return r.file, path
}

// spell names a key in the message about another: with its file and line, if that is another one.
func (r *report) spell(path, from string) string {
	file, within := r.shown(path)
	if file == r.fileOf(from) {
		return within
	}
	return fmt.Sprintf("%s in %s:%d", within, file, r.nearest(path).line)
}

// problem notes what is wrong with a key. One problem for each key is enough: what was found first
// stands, so a value that could not be decoded is not reported as missing too.
func (r *report) problem(path, format string, args ...any) {
	if !r.wrong[path] || path == "" {
		r.add(path, r.nearest(path), fmt.Sprintf(format, args...))
	}
}

// add notes a problem at a place.
func (r *report) add(path string, at position, message string) {
	r.wrong[path] = true
	for p := path; !r.around[p]; p = above(p) {
		r.around[p] = true
	}
	if len(r.problems) >= maxProblems {
		r.more++
		return
	}
	_, within := r.shown(path)
	r.problems = append(r.problems, Problem{at.file, at.line, at.column, within, oneLine(message)})
}

// full reports whether there are so many problems that more are only counted.
func (r *report) full() bool { return len(r.problems) >= maxProblems }

// above is the path around another: that of the whole configuration is empty, and around itself.
func above(path string) string { return path[:max(strings.LastIndexAny(path, ".["), 0)] }

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
		r.add(path, r.nearest(path), e.Error())
	}
}

func (r *report) warn(path, format string, args ...any) {
	if len(r.warnings) >= maxProblems {
		return
	}
	at := r.nearest(path)
	_, within := r.shown(path)
	r.warnings = append(r.warnings, Problem{at.file, at.line, at.column, within, oneLine(fmt.Sprintf(format, args...))})
}

// broken reports whether a problem of the key, of one inside it or of one around it was noted: what
// it holds then is not what the file meant.
func (r *report) broken(path string) bool { return r.around[path] || r.misshapen(path) }

// misshapen reports whether a problem of the key itself, or of one around it, was noted.
func (r *report) misshapen(path string) bool {
	for ; ; path = above(path) {
		if r.wrong[path] || path == "" {
			return r.wrong[path]
		}
	}
}

// set reports whether the file has the key.
func (r *report) set(path string) bool {
	_, ok := r.positions[path]
	return ok
}

// nearest is the place of a key or, for a missing key, of the nearest one around it.
func (r *report) nearest(path string) position {
	file := r.fileOf(path)
	for at := path; at != ""; at = above(at) {
		if pos, ok := r.positions[at]; ok && pos.file == file {
			return pos
		}
	}
	return position{file: file}
}

// err sorts what was found; nil when nothing is wrong.
func (r *report) err() error {
	inOrder(r.problems, r.file)
	inOrder(r.warnings, r.file)
	if len(r.problems) == 0 {
		return nil
	}
	if r.more > 0 {
		r.problems = append(r.problems, Problem{File: r.file, Message: fmt.Sprintf("has %d problems more, mend these first", r.more)})
	}
	return r.problems
}

// inOrder sorts findings as they stand in the files, first the main one.
func inOrder(ps []Problem, first string) {
	rank := func(p Problem) string {
		if p.File == first {
			return ""
		}
		return p.File
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// oneLine keeps a message on its line, whatever a library's error holds.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
