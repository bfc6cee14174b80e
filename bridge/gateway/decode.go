package gateway

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder writes a YAML tree into a struct. It follows the declared types, so the depth of its
// recursion is theirs, whatever the file nests or aliases.
type decoder struct {
	*report
	env    func(string) (string, bool)
	known  map[reflect.Type][]key
	values int  // decoded so far
	many   bool // too many, and noted
}

// maxValues bounds what aliases of aliases can make of a file: a file without them has fewer values than bytes.
const maxValues = maxFileBytes

// value decodes one node by the type of its destination. A null leaves the default.
func (d *decoder) value(n *yaml.Node, v reflect.Value, k key, path string) {
	if d.values++; d.values > maxValues {
		d.tooMany()
		return
	}
	n = d.resolve(n, path)
	switch {
	case n == nil || isNull(n):
	case section(v.Type()):
		d.section(n, v, path)
	case v.Kind() == reflect.Slice:
		d.list(n, v, k, path)
	default:
		d.scalar(n, v, k, path)
	}
}

// keys is the function keys, once for each type.
func (d *decoder) keys(t reflect.Type) []key {
	if d.known[t] == nil {
		d.known[t] = keys(t)
	}
	return d.known[t]
}

func (d *decoder) tooMany() {
	if !d.many {
		d.many = true
		d.problem("", "its aliases make more than %d values, write less", maxValues)
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// resolve follows aliases to the node that holds the value; nil after a problem. What is quoted in the file is
// not quoted here: it may be a password.
func (d *decoder) resolve(n *yaml.Node, path string) *yaml.Node {
	const hops = 16 // an alias of an alias is odd, a ring of them is endless
	for range hops {
		switch {
		case n.Style&yaml.TaggedStyle != 0:
			d.problem(path, "a tag has no meaning here; remove it, or quote text that begins with !")
			return nil
		case n.Kind == yaml.AliasNode:
			n = n.Alias
		default:
			return n
		}
	}
	d.problem(path, "its aliases go round in a circle")
	return nil
}

func (d *decoder) section(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.problem(path, "must be a mapping with the keys %s", strings.Join(names(keys(v.Type())), ", "))
		return
	}
	known, seen := d.keys(v.Type()), map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, at := n.Content[i].Value, where(n.Content[i])
		if n.Content[i].ShortTag() == "!!merge" {
			d.stray(join(path, "<<"), at, "merge keys are not read, write the keys out")
			continue
		}
		k := slices.IndexFunc(known, func(k key) bool { return k.name == name })
		if k < 0 && d.full() { // to look for what it was meant to be takes long
			d.stray(path, at, "")
			continue
		}
		if k < 0 {
			d.stray(join(path, plainKey(name, known)), at, d.unknownKey(name, path, known))
			continue
		}
		here := join(path, name)
		if line, twice := seen[name]; twice {
			d.stray(here, at, fmt.Sprintf("stands in line %d already, remove one", line))
			continue
		}
		seen[name] = at.line
		d.place(here, at)
		d.value(n.Content[i+1], v.Field(known[k].index), known[k], here)
	}
}

// stray reports a key that is not declared, at its own place.
func (d *decoder) stray(path string, at position, message string) {
	at.file = d.fileOf(path)
	d.add(path, at, message)
}

func (d *decoder) unknownKey(name, path string, known []key) string {
	if near := Closest(name, names(known)); near != "" {
		return "is no known key, did you mean " + near + "?"
	}
	if elsewhere := whereIs(name); len(elsewhere) > 0 {
		text := "is no known key here, write " + elsewhere[0]
		if d.fileOf(path) != d.file {
			text += " in " + d.file
		}
		return text
	}
	return "is no known key, known are " + strings.Join(names(known), ", ")
}

func names(ks []key) []string {
	out := make([]string, len(ks))
	for i, k := range ks {
		out[i] = k.name
	}
	return out
}

var plainKeyForm = regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)

// plainKey spells an unknown key as a part of a path. One that does not look like a key, nor like a known
// one, is not printed: it may be a password in the wrong place.
func plainKey(name string, known []key) string {
	if len(name) <= 24 && plainKeyForm.MatchString(name) || Closest(name, names(known)) != "" || len(whereIs(name)) > 0 {
		return name
	}
	return "…"
}

// list decodes a sequence; where a list of words is wanted, a single one will do.
func (d *decoder) list(n *yaml.Node, v reflect.Value, k key, path string) {
	ok := n.Kind == yaml.SequenceNode
	inner := section(v.Type().Elem())
	if !ok && (inner || n.Kind != yaml.ScalarNode) {
		want := "text"
		if inner {
			want = "mappings with the keys " + strings.Join(names(keys(v.Type().Elem())), ", ")
		}
		d.problem(path, "must be a list of %s", want)
		return
	}
	items := []*yaml.Node{n}
	if ok {
		items = n.Content
	}
	if d.values+len(items) > maxValues {
		d.values = maxValues
		items = nil
		d.tooMany()
	}
	out := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		at := path
		if ok {
			at = fmt.Sprintf("%s[%d]", path, i)
			d.place(at, start(item))
		}
		if inner {
			preset(out.Index(i))
		}
		d.value(item, out.Index(i), key{oneOf: k.oneOf}, at)
	}
	v.Set(out)
}

// scalar decodes text, a number or a word. Numbers keep the spelling of the file, so a client id of
// 0017 is that.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, k key, path string) {
	if n.Kind != yaml.ScalarNode {
		d.problem(path, "must be a single value, not a list or a mapping")
		return
	}
	d.place(path, where(n))
	value, ok := d.expand(n.Value, v.Type() == secretType, path)
	if !ok {
		return
	}
	if err := setScalar(v, value); err != nil {
		d.problem(path, "%s", err)
		return
	}
	if value == n.Value {
		d.plain(v, path)
	}
	if len(k.oneOf) > 0 && !slices.Contains(k.oneOf, value) {
		hint := ""
		if near := Closest(value, k.oneOf); near != "" {
			hint = ", did you mean " + near + "?"
		}
		d.problem(path, "%q is not one of %s%s", value, strings.Join(k.oneOf, ", "), hint)
	}
}

// plain takes note of a secret that stands in the file as it is.
func (d *decoder) plain(v reflect.Value, path string) {
	switch v := v.Interface().(type) {
	case Secret:
		if v != "" {
			d.secrets = append(d.secrets, path)
		}
	case NATSURL:
		if v.String() != string(v) { // with a login
			d.secrets = append(d.secrets, path)
		}
	}
}

var (
	wholeReference = regexp.MustCompile(`^\$\{([^{}]*)\}$`)
	anyReference   = regexp.MustCompile(`\$\{[A-Za-z_][A-Za-z0-9_]*\}`)
	variableName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// expand replaces ${NAME} by the environment's value. Only a whole value is replaced; in a secret
// anything else stands for itself.
func (d *decoder) expand(value string, secret bool, path string) (string, bool) {
	m := wholeReference.FindStringSubmatch(value)
	switch {
	case m == nil && !secret && anyReference.MatchString(value):
		d.problem(path, "%s must be the whole value, put all of it into the variable", anyReference.FindString(value))
	case m == nil:
		return value, true
	case !variableName.MatchString(m[1]) && secret:
		return value, true
	case !variableName.MatchString(m[1]):
		d.problem(path, "%q names no environment variable, write ${NAME}", value)
	default:
		if expanded, ok := d.env(m[1]); ok {
			return expanded, true
		}
		d.problem(path, "the environment variable %s is not set", m[1])
	}
	return "", false
}

func where(n *yaml.Node) position { return position{line: n.Line, column: n.Column} }

// start is where a list item begins: at the first key of a mapping.
func start(n *yaml.Node) position {
	if n.Kind == yaml.MappingNode && len(n.Content) > 0 {
		return where(n.Content[0])
	}
	return where(n)
}
