package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Load reads a configuration file: defaults, strict decoding, validation of everything. It reads
// the files that the configuration names and has no other effect. The error is Problems, with every
// problem at once; what is merely doubtful stands in Config.Warnings. env is os.LookupEnv, or a
// test's.
func Load(path string, env func(string) (string, bool)) (*Config, error) {
	c, _, err := loadWatched(path, env)
	return c, err
}

// loadWatched tells besides which files it read, or would have; also when it fails.
func loadWatched(path string, env func(string) (string, bool)) (*Config, watchlist, error) {
	r := &report{file: path}
	r.files.add(root{path: path})
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, r.files, Problems{{File: path, Message: "can't be read: " + reason(err)}}
	}
	c, err := r.parse(data, env)
	return c, r.files, err
}

func reason(err error) string {
	if inner := (*os.PathError)(nil); errors.As(err, &inner) {
		err = inner.Err
	}
	return err.Error()
}

// parse is Load for what was read already. Names of files in it are relative to path's directory.
func parse(path string, data []byte, env func(string) (string, bool)) (*Config, error) {
	return (&report{file: path}).parse(data, env)
}

func (r *report) parse(data []byte, env func(string) (string, bool)) (*Config, error) {
	c := &Config{}
	preset(reflect.ValueOf(c).Elem())
	if root, ok := r.tree(data); ok {
		d := &decoder{report: r, env: env, anchors: map[string]ast.Node{}}
		d.document(root, c)
		v := &validator{report: r, Config: c, dir: filepath.Dir(r.file)}
		v.all()
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	c.Warnings = r.warnings
	return c, nil
}

// Bounds of what is given to the YAML parser: it recurses once for each level, and its time grows with
// the square of the depth.
const (
	maxFileBytes = 1 << 20
	maxBrackets  = 10_000
)

// tree parses the file into its one document. Syntax errors name the place and never quote the
// text around it, which may be a password.
func (r *report) tree(data []byte) (root ast.Node, ok bool) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	switch {
	case len(data) > maxFileBytes:
		r.problem("", "has more than 1MiB, which no configuration needs")
		return nil, false
	case !utf8.Valid(data):
		r.problem("", "is not valid UTF-8")
		return nil, false
	case bytes.Count(data, []byte("[")) > maxBrackets || bytes.Count(data, []byte("{")) > maxBrackets:
		r.problem("", "has too many brackets, which no configuration needs")
		return nil, false
	}
	file, err := parseYAML(data)
	if err != nil {
		p := Problem{File: r.file, Message: "is not YAML: " + oneLine(err.Error())}
		if e := yaml.Error(nil); errors.As(err, &e) {
			at := where(e.GetToken())
			p.Line, p.Column, p.Message = at.line, at.column, "is not YAML: "+oneLine(e.GetMessage())
		}
		r.problems = append(r.problems, p)
		return nil, false
	}
	for i, doc := range file.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType:
		case root != nil:
			at := start(doc.Body)
			r.problems = append(r.problems, Problem{r.file, at.line, at.column, "", fmt.Sprintf("holds a second document, keep one (document %d)", i+1)})
			return nil, false
		default:
			root = doc.Body
		}
	}
	return root, true
}

// parseYAML turns a panic of the parser into an error: some malformed files make it run past a
// slice, and a configuration must not be able to end the process.
func parseYAML(data []byte) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("it confuses the parser, look for unbalanced quotes and brackets")
		}
	}()
	// Duplicate keys are reported with all other problems, not as the only one.
	return parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
}
