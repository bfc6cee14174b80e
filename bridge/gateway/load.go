package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"fleetbridge/internal/plainfile"
)

// Load reads a configuration file: defaults, strict decoding, validation of everything. It reads
// the files that the configuration names and has no other effect. The error is Problems, with every
// problem at once; what is merely doubtful stands in Config.Warnings. env is os.LookupEnv, or a
// test's.
func Load(path string, env func(string) (string, bool)) (*Config, error) {
	c, _, err := loadWatched(path, env)
	return c, err
}

// loadWatched is Load. It returns also which files it has read, or would have read, even if it fails.
func loadWatched(path string, env func(string) (string, bool)) (*Config, watchlist, error) {
	return loadEdited(path, env, Edit{})
}

// loadEdited is loadWatched as if the files had been changed.
func loadEdited(path string, env func(string) (string, bool), e Edit) (*Config, watchlist, error) {
	r := newReport(path)
	r.files.add(root{path: path})
	file, err := plainfile.Read(path, "configuration", maxFileBytes)
	if err != nil {
		return nil, r.files, Problems{{File: path, Message: reason(err)}}
	}
	r.infos[path] = file.Info
	c, err := r.parse(file.Data, env, e)
	return c, r.files, err
}

// loadUntil is loadWatched, but returns when ctx ends, even if a file system does not answer. The goroutine that it then
// leaves behind ends with the process.
func loadUntil(ctx context.Context, path string, env func(string) (string, bool), e Edit) (*Config, watchlist, error) {
	type loaded struct {
		cfg  *Config
		seen watchlist
		err  error
	}
	done := make(chan loaded, 1)
	go func() {
		c, seen, err := loadEdited(path, env, e)
		done <- loaded{c, seen, err}
	}()
	select {
	case l := <-done:
		return l.cfg, l.seen, l.err
	case <-ctx.Done():
		return nil, watchlist{}, ctx.Err()
	}
}

// reason says why a file can't be read, without its name.
func reason(err error) string {
	refused, inner := (*plainfile.Refused)(nil), (*fs.PathError)(nil)
	switch {
	case errors.As(err, &refused):
		return refused.Why
	case errors.As(err, &inner):
		err = inner.Err
	}
	return "can't be read: " + err.Error()
}

// parse is Load for what was read already. Names of files in it are relative to path's directory.
func parse(path string, data []byte, env func(string) (string, bool)) (*Config, error) {
	return newReport(path).parse(data, env, Edit{})
}

func (r *report) parse(data []byte, env func(string) (string, bool), e Edit) (*Config, error) {
	c := &Config{dir: filepath.Dir(r.file), origins: map[string]string{}}
	preset(reflect.ValueOf(c).Elem())
	v := &validator{report: r, Config: c, edit: e}
	if r.decode(data, env, reflect.ValueOf(c).Elem(), "") {
		v.thingsDir(env)
		v.all()
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	c.Warnings = r.warnings
	return c, nil
}

// decode parses a file and writes it into a struct; path is that of the file's root. It reports whether the
// file could be parsed.
func (r *report) decode(data []byte, env func(string) (string, bool), into reflect.Value, path string) bool {
	root, ok := r.tree(data, path)
	if ok && root != nil {
		(&decoder{report: r, env: env, known: map[reflect.Type][]key{}}).value(root, into, key{}, path)
	}
	return ok
}

// maxFileBytes is the size of 5,000 Things with their users; a file that is larger is another one.
const maxFileBytes = 1 << 20

// tree parses the file into its one document. Syntax errors name the place and never quote the
// text around it, which may be a password.
func (r *report) tree(data []byte, path string) (root *yaml.Node, ok bool) {
	switch {
	case len(data) > maxFileBytes:
		r.problem(path, "has more than 1MiB, which no configuration needs")
		return nil, false
	case !utf8.Valid(data):
		r.problem(path, "is not valid UTF-8")
		return nil, false
	}
	docs, err := parseYAML(string(data))
	if err != nil {
		r.add(path, position{r.fileOf(path), faultyLine(string(data), err), 0}, "is not YAML: "+syntaxError(err))
		return nil, false
	}
	for i, doc := range docs {
		switch {
		case len(doc.Content) == 0 || isNull(doc.Content[0]):
		case root != nil:
			at := start(doc.Content[0])
			r.add(path, position{r.fileOf(path), at.line, at.column}, fmt.Sprintf("holds a second document, keep one (document %d)", i+1))
			return nil, false
		default:
			root = doc.Content[0]
		}
	}
	return root, true
}

// parseYAML parses all documents of a file. It turns a panic of the parser into an error: a configuration must
// not be able to end the process.
func parseYAML(text string) (docs []*yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("it confuses the parser, look for unbalanced quotes and brackets")
		}
	}()
	in := yaml.NewDecoder(strings.NewReader(text))
	for {
		doc := &yaml.Node{}
		err := in.Decode(doc)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
}

// syntaxError is the parser's message without the line, which is sometimes the one before.
func syntaxError(err error) string {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	if strings.HasPrefix(message, "line ") {
		_, message, _ = strings.Cut(message, ": ")
	}
	if strings.HasPrefix(message, "unknown anchor") { // whose name may be a password
		message = "an alias has no anchor before it; quote text that begins with *"
	}
	return oneLine(message)
}

// maxSearched is the size of a file in which the faulty line is looked for: each try takes about 1 ms for 2 KiB.
const maxSearched = 128 << 10

// faultyLine is the first line with which the file's beginning has the error; 0 in a large file.
func faultyLine(text string, err error) int {
	if len(text) > maxSearched {
		return 0
	}
	lines := strings.SplitAfter(text, "\n")
	return 1 + sort.Search(len(lines)-1, func(i int) bool {
		_, e := parseYAML(strings.Join(lines[:i+1], ""))
		return e != nil && syntaxError(e) == syntaxError(err)
	})
}
