package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"fleetbridge/internal/plainfile"
	"fleetbridge/mapping"
)

// Edit is a change of the Things of a configuration, which is checked before it is made.
type Edit struct {
	Add     string   // the name of Text in errors; empty: nothing is added
	Text    []byte   // a file with things:
	Without []string // files of things_dir that are left out
}

// LoadEdited is Load as if the files had been changed.
func LoadEdited(ctx context.Context, path string, env func(string) (string, bool), e Edit) (*Config, error) {
	c, _, err := loadUntil(ctx, path, env, e)
	return c, err
}

// Origin is the file that a Thing stands in, with the line; or Registry.
func (c *Config) Origin(thing string) string { return c.origins[thing] }

// Item is a Thing as somebody has written it: keys and values.
type Item map[string]any

// Name is the Thing's.
func (i Item) Name() string { name, _ := i["name"].(string); return name }

// Items are the Things of a file with things:. Its relative paths, which begin at its directory, become absolute ones. The
// file must be one that LoadEdited takes; one that has more than things: is refused.
func Items(file string, text []byte) ([]Item, error) {
	r := newReport(file)
	root, ok := r.tree(text, "")
	if !ok {
		return nil, r.err()
	}
	if root == nil {
		return nil, fmt.Errorf("%s: is empty, write things: with a list", file)
	}
	p := plainer{left: maxValues}
	whole, ok := p.plain(root, 5).(map[string]any)
	if p.left < 0 {
		return nil, fmt.Errorf("%s: its aliases make more than %d values, write less", file, maxValues)
	}
	if !ok {
		return nil, fmt.Errorf("%s: must be a mapping with the key things", file)
	}
	list, ok := whole["things"].([]any)
	if !ok || len(list) == 0 || len(whole) > 1 {
		return nil, fmt.Errorf("%s: write things: with a list, and nothing else", file)
	}
	var out []Item
	for _, one := range list {
		item, ok := one.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s: things must be a list of mappings", file)
		}
		dir := filepath.Dir(file)
		if err := absolute(dir, item, "password_file", "schema_dir", "thing_type"); err != nil {
			return nil, err
		}
		if pair, ok := item["tls"].(map[string]any); ok {
			if err := absolute(dir, pair, "cert_file", "key_file"); err != nil {
				return nil, err
			}
		}
		out = append(out, item)
	}
	return out, nil
}

func absolute(dir string, in map[string]any, keys ...string) error {
	for _, key := range keys {
		path, ok := in[key].(string)
		if !ok || path == "" || wholeReference.MatchString(path) {
			continue
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		whole, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		in[key] = whole
	}
	return nil
}

// plainer makes values of a tree, at most so many.
type plainer struct{ left int }

// plain is a tree as maps, lists and the text of scalars, as deep as a file with things: goes. Keys without a value are left out.
func (p *plainer) plain(n *yaml.Node, depth int) any {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if p.left--; p.left < 0 || depth == 0 || isNull(n) {
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		out := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if value := p.plain(n.Content[i+1], depth-1); value != nil {
				out[n.Content[i].Value] = value
			}
		}
		return out
	case yaml.SequenceNode:
		var out []any
		for _, one := range n.Content {
			if p.left < 0 {
				break
			}
			out = append(out, p.plain(one, depth-1))
		}
		return out
	}
	return n.Value
}

// PartPath is the file of things_dir that holds a Thing which was added at run time, and nothing else.
func (c *Config) PartPath(thing string) string {
	name := mapping.Token(thing)
	if len(name) > 200 { // what a file system takes for a name
		sum := sha256.Sum256([]byte(name))
		name = name[:150] + "." + hex.EncodeToString(sum[:8])
	}
	return filepath.Join(c.ThingsDir, name+".yaml")
}

// WritePart writes such a file at once, for those who may read like, the configuration file. Without replace it is an error if it is there,
// and with replace if somebody else has written it.
func (c *Config) WritePart(like string, i Item, replace bool) (err error) {
	path := c.PartPath(i.Name())
	if _, err := os.Lstat(path); err == nil && !replace {
		return fmt.Errorf("%s is there already; use --replace, or remove it", path)
	} else if err == nil && !c.WrittenPart(i.Name()) {
		return fmt.Errorf("%s is there already, and somebody else has written it: change it there, or remove it", path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := yaml.Marshal(map[string]any{"things": []any{map[string]any(i)}})
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(c.ThingsDir, ".new-*") // which is not read
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.WriteString(partHead + string(text))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = plainfile.Like(f.Name(), like); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// partHead begins a file that WritePart has written.
const partHead = "# Written by fleetbridge things add; fleetbridge things rm removes it.\n"

// WrittenPart reports whether a Thing stands in a file that WritePart has written, and nothing else does, so that it can be removed.
func (c *Config) WrittenPart(thing string) bool {
	path := c.PartPath(thing)
	if file, _, _ := cutLast(c.Origin(thing), ":"); file != path {
		return false
	}
	in, err := plainfile.Read(path, "configuration", maxFileBytes)
	if err != nil || !bytes.HasPrefix(in.Data, []byte(partHead)) {
		return false
	}
	items, err := Items(path, in.Data)
	return err == nil && len(items) == 1
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
