package schemas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"fleetbridge/internal/plainfile"
)

// folder is a directory of schema files while it is loaded. To the schemas it is a host of its own,
// so that no reference can leave it.
type folder struct {
	dir      string
	entries  int // looked at
	files    map[string]*file
	ids      map[string]string // $id to path
	texts    texts
	patterns *patterns
	bytes    int  // of all files
	one, all size // of what was compiled: the schema at work, and all
	problems []*FileError
}

type file struct {
	raw  []byte
	text any
	size size
	bad  bool // no JSON; its problem was told
	used bool // it is a schema, or one refers to it, or its problem was told
}

const root = "thing:///"

func newFolder(dir string) *folder {
	return &folder{dir: dir, files: map[string]*file{}, ids: map[string]string{}, texts: texts{}, patterns: newPatterns()}
}

func (f *folder) paths() []string { return slices.Sorted(maps.Keys(f.files)) }

// at is the path of a file in this process.
func (f *folder) at(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

// problem notes what is wrong; so many will do.
func (f *folder) problem(path string, line int, d Detail) {
	if f.full() {
		return
	}
	f.problems = append(f.problems, &FileError{f.at(path), line, d})
}

func (f *folder) full() bool { return len(f.problems) >= maxProblems }

// read takes in every JSON file of a directory and of those below it.
func (f *folder) read(dir string, level int) {
	entries, err := plainfile.List(f.at(dir), maxFolderEntries)
	if err != nil {
		f.problem(dir, 0, Detail{Message: cause(err)})
		return
	}
	if f.entries += len(entries); f.entries > maxFolderEntries {
		f.problem(".", 0, Detail{Message: fmt.Sprintf("holds more than %d files, name a directory of its own", maxFolderEntries)})
		return
	}
	for _, entry := range entries {
		if f.full() {
			return
		}
		name := path.Join(dir, entry.Name())
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		info, err := os.Stat(f.at(name)) // follows links
		switch {
		case err != nil:
			f.problem(name, 0, Detail{Message: cause(err)})
		case info.IsDir() && level == maxFolderLevels:
			f.problem(name, 0, Detail{Message: fmt.Sprintf("directories are nested deeper than %d levels, flatten them", maxFolderLevels)})
		case info.IsDir():
			f.read(name, level+1)
		case strings.HasSuffix(strings.ToLower(name), ".json"):
			f.take(name)
		}
	}
}

// take reads one file. A file that is no JSON stays out of the set, its problem told.
func (f *folder) take(name string) {
	plain, err := plainfile.Read(f.at(name), "schema", MaxFileBytes)
	if err != nil {
		f.problem(name, 0, Detail{Message: cause(err)})
		return
	}
	f.put(name, plain.Data)
}

// put takes a file in.
func (f *folder) put(name string, raw []byte) {
	if f.bytes += len(raw); f.bytes > maxFolderBytes || len(f.files) == maxFolderFiles {
		f.problem(name, 0, Detail{Message: fmt.Sprintf("is one too many: a directory may have %d files and %d bytes", maxFolderFiles, maxFolderBytes)})
		return
	}
	if err := Guard(raw, Limits{MaxBytes: MaxFileBytes}); err != nil {
		var e *Error
		errors.As(err, &e)
		f.problem(name, lineAt(raw, e.Offset), e.Details[0])
		f.files[name] = &file{raw: raw, bad: true, used: true}
		return
	}
	text, _ := jsonschema.UnmarshalJSON(bytes.NewReader(raw)) // Guard found it good
	f.files[name] = &file{raw: raw, text: text}
	var long string
	if f.files[name].size, long = sizeOf(text); long != "" {
		f.problem(name, f.line(name, long), Detail{shorten(long, maxPart), fmt.Sprintf("has members whose JSON Pointers are longer than %d bytes; shorten the names", maxPart)})
		f.files[name].bad, f.files[name].used = true, true
		return
	}
	f.texts[at(name)] = text
	id, ok := child(text, "$id").(string)
	if id = strings.TrimSuffix(id, "#"); !ok || id == "" {
		return
	}
	if other, taken := f.ids[id]; taken {
		f.problem(name, f.line(name, "/$id"), Detail{"/$id", fmt.Sprintf("is the $id of %s too, give each file its own", other)})
		return
	}
	f.ids[id] = name
}

// compile makes a checker of a file, nil if it can't, its problems told.
func (f *folder) compile(name string) *checker {
	f.files[name].used = true
	if f.files[name].bad || f.full() {
		return nil
	}
	f.one = size{}
	c, err := compile(f, at(name), f.texts, f.patterns)
	if err != nil {
		f.blame(name, err)
		return nil
	}
	return c
}

// at is a file's URL.
func at(name string) string { return root + (&url.URL{Path: name}).EscapedPath() }

// Load gives the compiler a file of the directory, by its URL or its $id.
func (f *folder) Load(from string) (any, error) {
	name, ok := f.ids[from]
	if u, err := url.Parse(from); err == nil && strings.HasPrefix(from, root) {
		name, ok = strings.TrimPrefix(u.Path, "/"), true
	}
	if !ok {
		return nil, errors.New("it is not in the directory, and schemas are never fetched from elsewhere; put a copy beside the others")
	}
	file, ok := f.files[name]
	if !ok {
		return nil, fmt.Errorf("there is no file %s in the directory", name)
	}
	file.used = true
	if file.bad && file.text == nil {
		return nil, fmt.Errorf("%s is no JSON", name)
	}
	if file.bad {
		return nil, fmt.Errorf("%s is no usable schema", name)
	}
	f.one.add(file.size)
	f.all.add(file.size)
	if too := f.one.beyond(maxOne); too != "" {
		return nil, fmt.Errorf("the schema has, with all that it refers to, %s; split it", too)
	}
	if too := f.all.beyond(maxAll); too != "" {
		return nil, fmt.Errorf("the schemas of the directory have together, each with all that it refers to, %s; refer to less", too)
	}
	f.texts[from] = file.text
	return file.text, nil
}

// blame tells why a schema did not compile, at the file and line where that is.
func (f *folder) blame(name string, err error) {
	var (
		invalid *jsonschema.SchemaValidationError
		broken  *jsonschema.ValidationError
		load    *jsonschema.LoadURLError
		nowhere *jsonschema.JSONPointerNotFoundError
		anchor  *jsonschema.AnchorNotFoundError
	)
	switch {
	case errors.As(err, &invalid) && errors.As(invalid.Err, &broken):
		in, _, _ := strings.Cut(invalid.URL, "#")
		where := f.name(in, name)
		m := &meter{work: newWork(librarySteps)}
		if !m.within(func() {
			for _, d := range explain(m, broken, f.files[where].text, f.texts) {
				f.problem(where, f.line(where, d.Pointer), d)
			}
		}) {
			f.problem(where, 0, Detail{Message: "is no usable schema, in too many ways to name"})
		}
	case errors.As(err, &load):
		f.reference(name, load.URL, fmt.Sprintf("%s can't be used: %v", strings.TrimPrefix(load.URL, root), load.Err))
	case errors.As(err, &nowhere):
		f.reference(name, nowhere.URL, "refers to "+strings.TrimPrefix(nowhere.URL, root)+", where nothing is")
	case errors.As(err, &anchor):
		f.reference(name, anchor.Reference, "refers to "+strings.TrimPrefix(anchor.Reference, root)+", where nothing is")
	default:
		f.problem(name, 0, Detail{Message: "is no usable schema: " + strings.ReplaceAll(err.Error(), root, "")})
	}
}

// name is the file behind a URL.
func (f *folder) name(from, otherwise string) string {
	if u, err := url.Parse(from); err == nil && strings.HasPrefix(from, root) {
		if p := strings.TrimPrefix(u.Path, "/"); f.files[p] != nil {
			return p
		}
	}
	if p, ok := f.ids[from]; ok {
		return p
	}
	return otherwise
}

// reference tells a problem at every reference that resolves to a target, or of the file as a whole.
func (f *folder) reference(name, target, message string) {
	file, fragment, _ := strings.Cut(target, "#")
	found := false
	for _, from := range f.paths() {
		base := at(from)
		if id, ok := child(f.files[from].text, "$id").(string); ok {
			base = id
		}
		f.references(f.files[from].text, nil, func(where []string, ref string) {
			u, err := url.Parse(base)
			if err != nil {
				return
			}
			ref, frag, _ := strings.Cut(ref, "#")
			to, err := u.Parse(ref)
			if f.full() || err != nil || to.String() != file || fragment != "" && frag != fragment {
				return
			}
			found = true
			f.problem(from, f.line(from, pointer(where...)), Detail{pointer(where...), message})
		})
	}
	if !found {
		f.problem(name, 0, Detail{Message: message})
	}
}

// references calls back for every reference in a schema, with its place.
func (f *folder) references(v any, where []string, found func(where []string, ref string)) {
	switch v := v.(type) {
	case map[string]any:
		for name, sub := range v {
			here := below(where, name)
			if ref, ok := sub.(string); ok && (name == "$ref" || name == "$dynamicRef" || name == "$schema") {
				found(here, ref)
			}
			f.references(sub, here, found)
		}
	case []any:
		for i, sub := range v {
			f.references(sub, below(where, strconv.Itoa(i)), found)
		}
	}
}

// line is the line of a value in a file.
func (f *folder) line(name, pointer string) int {
	d := json.NewDecoder(bytes.NewReader(f.files[name].raw))
	start := 0
	for _, token := range strings.Split(pointer, "/")[1:] {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		if !descend(d, token) {
			break // it is missing: the line of what should have it
		}
		start = int(d.InputOffset())
	}
	raw := f.files[name].raw
	for start < len(raw) && strings.IndexByte(" \t\r\n:,", raw[start]) >= 0 {
		start++
	}
	return lineAt(raw, start)
}

// descend reads up to the value of a member or an item.
func descend(d *json.Decoder, token string) bool {
	open, err := d.Token()
	if err != nil {
		return false
	}
	for i := 0; d.More(); i++ {
		name := strconv.Itoa(i)
		if open == json.Delim('{') {
			t, err := d.Token()
			if err != nil {
				return false
			}
			name, _ = t.(string)
		} else if open != json.Delim('[') {
			return false
		}
		if name == token {
			return true
		}
		var skipped json.RawMessage
		if d.Decode(&skipped) != nil {
			return false
		}
	}
	return false
}

// lineAt counts lines from 1.
func lineAt(raw []byte, offset int) int {
	return 1 + bytes.Count(raw[:min(offset, len(raw))], []byte("\n"))
}

// cause says why a file can't be used, without the path that stands before it anyway.
func cause(err error) string {
	refused, e := (*plainfile.Refused)(nil), (*fs.PathError)(nil)
	switch {
	case errors.As(err, &refused):
		return refused.Why
	case errors.As(err, &e):
		err = e.Err
	}
	return "can't be read: " + err.Error()
}
