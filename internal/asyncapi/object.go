package asyncapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// object is a JSON object whose members keep their order, so that the document is the same each time and
// reads from top to bottom.
type object []member

type member struct {
	key   string
	value any
}

// with adds a member at the end.
func (o object) with(key string, value any) object { return append(o, member{key, value}) }

// get is a member's value, nil if there is none.
func (o object) get(key string) any {
	for _, m := range o {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, part := range []any{m.key, m.value} {
			if j > 0 {
				b.WriteByte(':')
			}
			text, err := compact(part)
			if err != nil {
				return nil, err
			}
			b.Write(text)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// compact is json.Marshal without escapes for HTML.
func compact(v any) ([]byte, error) {
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	err := out.Encode(v)
	return bytes.TrimRight(b.Bytes(), "\n"), err
}

// MarshalYAML keeps the order there, too.
func (o object) MarshalYAML() (any, error) {
	out := &yaml.Node{Kind: yaml.MappingNode}
	for _, m := range o {
		var key, value yaml.Node
		if err := errors.Join(key.Encode(m.key), value.Encode(m.value)); err != nil {
			return nil, err
		}
		out.Content = append(out.Content, &key, &value)
	}
	return out, nil
}

// parse reads one JSON value, objects as object and numbers as written.
func parse(text []byte) (any, error) {
	in := json.NewDecoder(bytes.NewReader(text))
	in.UseNumber()
	v, err := value(in)
	if err != nil {
		return nil, err
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return v, nil
}

func value(in *json.Decoder) (any, error) {
	t, err := in.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		out := object{}
		for in.More() {
			key, err := in.Token()
			if err != nil {
				return nil, err
			}
			v, err := value(in)
			if err != nil {
				return nil, err
			}
			out = out.with(fmt.Sprint(key), v)
		}
		_, err = in.Token()
		return out, err
	case json.Delim('['):
		out := []any{}
		for in.More() {
			v, err := value(in)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		_, err = in.Token()
		return out, err
	}
	if n, ok := t.(json.Number); ok {
		if i, err := n.Int64(); err == nil {
			return i, nil
		}
		f, err := n.Float64()
		return f, err
	}
	return t, nil
}
