package gateway

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// decoder writes a YAML tree into a Config. It follows the declared types, so the depth of its
// recursion is theirs, whatever the file nests or aliases.
type decoder struct {
	*report
	env     func(string) (string, bool)
	anchors map[string]ast.Node
}

// document decodes the root of the file.
func (d *decoder) document(root ast.Node, c *Config) {
	if root != nil {
		d.value(root, reflect.ValueOf(c).Elem(), key{}, "")
	}
}

// value decodes one node by the type of its destination. A null leaves the default.
func (d *decoder) value(n ast.Node, v reflect.Value, k key, path string) {
	n = d.resolve(n, path)
	switch {
	case n == nil || n.Type() == ast.NullType:
	case section(v.Type()):
		d.section(n, v, path)
	case v.Kind() == reflect.Slice:
		d.list(n, v, k, path)
	default:
		d.scalar(n, v, k, path)
	}
}

// resolve follows anchors and aliases to the node that holds the value; nil after a problem.
func (d *decoder) resolve(n ast.Node, path string) ast.Node {
	const hops = 16 // an alias of an alias is odd, a ring of them is endless
	for range hops {
		switch x := n.(type) {
		case *ast.AnchorNode:
			d.anchors[text(x.Name)] = x.Value
			n = x.Value
		case *ast.AliasNode:
			target, ok := d.anchors[text(x.Value)]
			if !ok {
				d.problem(path, "there is no &%s before it", text(x.Value))
				return nil
			}
			n = target
		case *ast.TagNode:
			d.problem(path, "the tag %s has no meaning here, remove it", text(x))
			return nil
		default:
			return n
		}
	}
	d.problem(path, "its aliases go round in a circle")
	return nil
}

func text(n ast.Node) string {
	if n == nil || n.GetToken() == nil {
		return ""
	}
	return n.GetToken().Value
}

func (d *decoder) section(n ast.Node, v reflect.Value, path string) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.problem(path, "must be a mapping with the keys %s", strings.Join(names(keys(v.Type())), ", "))
		return
	}
	known, seen := keys(v.Type()), map[string]int{}
	for it := m.MapRange(); it.Next(); {
		tk := it.Key().GetToken()
		name, at := tk.Value, where(tk)
		if _, merge := it.Key().(*ast.MergeKeyNode); merge {
			d.stray(join(path, "<<"), at, "merge keys are not read, write the keys out")
			continue
		}
		i := slices.IndexFunc(known, func(k key) bool { return k.name == name })
		if i < 0 {
			d.stray(join(path, plainKey(name)), at, unknownKey(name, path, known))
			continue
		}
		here := join(path, name)
		if line, twice := seen[name]; twice {
			d.problems = append(d.problems, Problem{d.file, at.line, at.column, here, fmt.Sprintf("stands in line %d already, remove one", line)})
			continue
		}
		seen[name] = at.line
		d.place(here, at)
		d.value(it.Value(), v.Field(known[i].index), known[i], here)
	}
}

// stray reports a key that is not declared, at its own place.
func (d *decoder) stray(path string, at position, message string) {
	d.problems = append(d.problems, Problem{d.file, at.line, at.column, path, message})
}

func unknownKey(name, path string, known []key) string {
	if near := Closest(name, names(known)); near != "" {
		return "is no known key, did you mean " + near + "?"
	}
	for _, elsewhere := range whereIs(name) {
		return "is no known key here, write " + elsewhere
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

var plainKeyForm = regexp.MustCompile(`^[A-Za-z0-9_<-]{1,64}$`)

// plainKey spells any text as a part of a path.
func plainKey(name string) string {
	if plainKeyForm.MatchString(name) {
		return name
	}
	if len(name) > 64 {
		name = name[:64]
	}
	return strconv.Quote(name)
}

// list decodes a sequence; where a list of words is wanted, a single one will do.
func (d *decoder) list(n ast.Node, v reflect.Value, k key, path string) {
	seq, ok := n.(*ast.SequenceNode)
	inner := section(v.Type().Elem())
	if !ok && (inner || !isScalar(n)) {
		want := "text"
		if inner {
			want = "mappings with the keys " + strings.Join(names(keys(v.Type().Elem())), ", ")
		}
		d.problem(path, "must be a list of %s", want)
		return
	}
	items := []ast.Node{n}
	if ok {
		items = seq.Values
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
		} else {
			item = rejoin(item)
		}
		d.value(item, out.Index(i), key{oneOf: k.oneOf}, at)
	}
	v.Set(out)
}

// rejoin undoes a slip of the parser: in a list within braces, {server: [mqtt://a:1883]}, it takes the
// plain text a:1883 for the key a, although YAML wants a space after the colon of a key.
func rejoin(item ast.Node) ast.Node {
	m, ok := item.(*ast.MappingNode)
	if !ok || m.IsFlowStyle || len(m.Values) != 1 || !isScalar(m.Values[0].Value) {
		return item
	}
	k, v := m.Values[0].Key.GetToken(), m.Values[0].Value.GetToken()
	quoted := k.Type == token.SingleQuoteType || k.Type == token.DoubleQuoteType
	if quoted || k.Position.Line != v.Position.Line || k.Position.Column+utf8.RuneCountInString(k.Value)+1 != v.Position.Column {
		return item
	}
	whole := *k
	whole.Value += ":" + strings.TrimSpace(v.Origin)
	return ast.String(&whole)
}

func isScalar(n ast.Node) bool {
	switch n.(type) {
	case ast.ScalarNode:
		return true
	}
	return false
}

// scalar decodes text, a number or a word. Numbers keep the spelling of the file, so a client id of
// 0017 is that.
func (d *decoder) scalar(n ast.Node, v reflect.Value, k key, path string) {
	if !isScalar(n) {
		d.problem(path, "must be a single value, not a list or a mapping")
		return
	}
	value := text(n)
	at := where(n.GetToken())
	if lit, ok := n.(*ast.LiteralNode); ok {
		value = lit.Value.Value
	}
	d.place(path, at)
	value, ok := d.expand(value, v.Type() == secretType, path)
	if !ok {
		return
	}
	if err := setScalar(v, value); err != nil {
		d.problem(path, "%s", err)
		return
	}
	if len(k.oneOf) > 0 && !slices.Contains(k.oneOf, value) {
		hint := ""
		if near := Closest(value, k.oneOf); near != "" {
			hint = ", did you mean " + near + "?"
		}
		d.problem(path, "%q is not one of %s%s", value, strings.Join(k.oneOf, ", "), hint)
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

func where(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{}
	}
	return position{t.Position.Line, t.Position.Column}
}

// start is where a list item begins: at the first key of a mapping.
func start(n ast.Node) position {
	if m, ok := n.(ast.MapNode); ok {
		if it := m.MapRange(); it.Next() {
			return where(it.Key().GetToken())
		}
	}
	return where(n.GetToken())
}
