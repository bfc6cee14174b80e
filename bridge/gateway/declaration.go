package gateway

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// key is one declared key of Config or of a struct in it.
type key struct {
	name      string
	index     int
	preset    string // the default as a file would spell it; of a list, the words
	otherwise string // what the reference says in place of a default
	oneOf     []string
	unit      string
	doc       string
	kind      reflect.Type
	fixed     bool // a running gateway can't change it
}

// keys reads the declaration of a struct.
func keys(t reflect.Type) []key {
	var out []key
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("yaml")
		if name == "-" {
			continue
		}
		out = append(out, key{
			name: name, index: i, kind: f.Type,
			preset: f.Tag.Get("default"), oneOf: strings.Fields(f.Tag.Get("oneof")),
			unit: f.Tag.Get("unit"), doc: f.Tag.Get("doc"), otherwise: f.Tag.Get("else"),
			fixed: f.Tag.Get("fixed") != "",
		})
	}
	return out
}

// section reports whether a type is a mapping with keys of its own.
func section(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(textUnmarshaler)
}

var (
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	durationType    = reflect.TypeFor[time.Duration]()
	secretType      = reflect.TypeFor[Secret]()
)

// preset fills a section with its declared defaults.
func preset(v reflect.Value) {
	for _, k := range keys(v.Type()) {
		f := v.Field(k.index)
		switch {
		case section(f.Type()):
			preset(f)
		case k.preset == "":
		case f.Kind() == reflect.Slice:
			f.Set(reflect.ValueOf(strings.Fields(k.preset)))
		default:
			if err := setScalar(f, k.preset); err != nil {
				panic("gateway: default of " + k.name + ": " + err.Error())
			}
		}
	}
}

// setScalar parses one value as a file spells it. Its errors name the mend.
func setScalar(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	if v.Type() == durationType {
		d, err := parseDuration(text)
		v.SetInt(int64(d))
		return err
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Int:
		n, err := strconv.Atoi(strings.ReplaceAll(text, "_", ""))
		if err != nil {
			return fmt.Errorf("%q is no whole number", text)
		}
		v.SetInt(int64(n))
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(text == "true")
	case reflect.Float64:
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || x-x != 0 { // NaN and the infinities are no rates
			return fmt.Errorf("%q is no number", text)
		}
		v.SetFloat(x)
	default:
		panic("gateway: a configuration key of type " + v.Type().String())
	}
	return nil
}

// whereIs lists the paths of every declared key of that name, without list indexes: mqtt.keep_alive.
func whereIs(name string) []string {
	var out []string
	var walk func(t reflect.Type, path string)
	walk = func(t reflect.Type, path string) {
		for _, k := range keys(t) {
			at := join(path, k.name)
			if k.name == name {
				out = append(out, at)
			}
			inner := k.kind
			if inner.Kind() == reflect.Slice {
				inner = inner.Elem()
				at += "[]"
			}
			if section(inner) {
				walk(inner, at)
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
	return out
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
