package schemas

import (
	"encoding/json"
	"strconv"
	"strings"
)

// grammar writes schemas over the keywords that nodes have, and payloads that mean to fit them.
type grammar struct{ *dice }

// schema is a whole schema, with definitions that refer to each other.
func (g grammar) schema() map[string]any {
	s := g.keywords(3)
	s["$defs"] = map[string]any{"x": g.sub(2), "y": g.sub(2), "z": g.sub(1)}
	return s
}

// sub is a schema within another.
func (g grammar) sub(depth int) any {
	switch roll := g.roll(12); {
	case roll == 0:
		return true
	case roll == 1:
		return g.roll(3) != 0
	case roll == 2 || depth <= 0 && roll < 6:
		return map[string]any{"$ref": pick(g.dice, "#/$defs/x", "#/$defs/y", "#/$defs/z", "#")}
	}
	return g.keywords(depth)
}

func (g grammar) keywords(depth int) map[string]any {
	s := map[string]any{}
	for range 1 + g.roll(4) {
		switch g.roll(7) {
		case 0:
			g.scalar(s)
		case 1, 2:
			g.object(s, depth)
		case 3:
			g.array(s, depth)
		case 4:
			if depth > 0 {
				g.combined(s, depth)
			}
		case 5:
			types := []any{"object", "array", "string", "number", "integer", "boolean", "null"}
			s["type"] = pick(g.dice, types...)
			if g.roll(2) == 0 {
				n := g.roll(5)
				s["type"] = types[n : n+1+g.roll(3)]
			}
		case 6:
			g.annotation(s)
		}
	}
	return s
}

func (g grammar) annotation(s map[string]any) {
	switch g.roll(4) {
	case 0:
		s["format"] = pick(g.dice, "date-time", "email")
	case 1:
		s["title"], s["default"] = "a", 1
	case 2:
		s["$comment"], s["examples"] = "b", []any{1}
	case 3:
		s["contentEncoding"], s["x-unit"] = "base64", "K"
	}
}

// value is a value of the schema, for const and enum.
func (g grammar) value() any { return json.RawMessage(g.dice.any(2)) }

func (g grammar) scalar(s map[string]any) {
	switch g.roll(10) {
	case 0:
		s["const"] = g.value()
	case 1:
		// Equal values in an enum are refused as a schema.
		s["enum"] = []any{g.value()}
		if g.roll(2) == 0 {
			s["enum"] = []any{"a", 1, nil, false, "äö", json.RawMessage("2.50"), []any{}, map[string]any{"a": 1}}
		}
	case 2:
		s["minimum"] = json.RawMessage(g.number())
	case 3:
		s["maximum"] = json.RawMessage(g.number())
	case 4:
		s["exclusiveMinimum"] = json.RawMessage(g.number())
	case 5:
		s["exclusiveMaximum"] = json.RawMessage(g.number())
	case 6:
		s["multipleOf"] = json.RawMessage(strings.TrimPrefix(g.number(), "-"))
	case 7:
		s["minLength"] = g.roll(4)
	case 8:
		s["maxLength"] = json.RawMessage(pick(g.dice, "0", "1", "2", "3.0", "21", "1e1"))
	case 9:
		s["pattern"] = pick(g.dice, somePatterns...)
	}
}

func (g grammar) object(s map[string]any, depth int) {
	list := func() []string {
		names := []string{}
		for i, n := 0, g.roll(len(someNames)); i <= g.roll(3) && n+i < len(someNames); i++ {
			names = append(names, someNames[n+i])
		}
		return names
	}
	subs := func(from []string) map[string]any {
		m := map[string]any{}
		for range g.roll(4) {
			m[pick(g.dice, from...)] = g.sub(depth - 1)
		}
		return m
	}
	switch g.roll(11) {
	case 0, 1, 2:
		s["properties"] = subs(someNames)
		if g.roll(4) == 0 { // more than are found one by one
			all := s["properties"].(map[string]any)
			for _, name := range someNames {
				all[name] = g.sub(depth - 2)
			}
		}
	case 3:
		s["required"] = list()
	case 4:
		s["additionalProperties"] = g.sub(depth - 1)
	case 5:
		s["patternProperties"] = subs(somePatterns)
	case 6:
		s["propertyNames"] = g.sub(depth - 1)
	case 7:
		s["minProperties"] = g.roll(3)
	case 8:
		s["maxProperties"] = g.roll(4)
	case 9:
		s[pick(g.dice, "dependentRequired", "dependencies")] = map[string]any{pick(g.dice, someNames...): list()}
	case 10:
		s[pick(g.dice, "dependentSchemas", "dependencies")] = subs(someNames)
	}
}

func (g grammar) array(s map[string]any, depth int) {
	switch g.roll(8) {
	case 0, 1:
		s["items"] = g.sub(depth - 1)
	case 2:
		s["prefixItems"] = g.subs(depth)
	case 3:
		s["minItems"] = g.roll(3)
	case 4:
		s["maxItems"] = g.roll(4)
	case 5:
		s["uniqueItems"] = true
	case 6:
		s["contains"] = g.sub(depth - 1)
	case 7:
		s["contains"], s["minContains"], s["maxContains"] = g.sub(depth-1), g.roll(3), g.roll(3)
	}
}

func (g grammar) combined(s map[string]any, depth int) {
	switch g.roll(6) {
	case 0, 1, 2:
		s[pick(g.dice, "allOf", "anyOf", "oneOf")] = g.subs(depth)
	case 3:
		s["not"] = g.sub(depth - 1)
	case 4:
		s["if"], s["then"] = g.sub(depth-1), g.sub(depth-1)
	case 5:
		s["if"], s["else"] = g.sub(depth-1), g.sub(depth-1)
	}
}

func (g grammar) subs(depth int) []any {
	list := []any{g.sub(depth - 1)}
	for range g.roll(3) {
		list = append(list, g.sub(depth-1))
	}
	return list
}

// fit writes a payload that may well fit a schema: of its types, with its names, near its bounds.
func (g grammar) fit(root map[string]any, schema any, depth int) string {
	s, ok := schema.(map[string]any)
	if !ok || depth <= 0 || g.roll(8) == 0 {
		return g.dice.any(min(depth, 2))
	}
	var ways []func() string
	add := func(w func() string) { ways = append(ways, w) }
	for _, keyword := range names(s) {
		value := s[keyword]
		switch keyword {
		case "const":
			add(func() string { return g.respell(value) })
		case "enum":
			add(func() string { return g.respell(pick(g.dice, value.([]any)...)) })
		case "allOf", "anyOf", "oneOf":
			add(func() string { return g.fit(root, pick(g.dice, value.([]any)...), depth-1) })
		case "not", "if", "then", "else":
			add(func() string { return g.fit(root, value, depth-1) })
		case "$ref":
			add(func() string { return g.fit(root, g.resolve(root, value.(string)), depth-1) })
		case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf":
			add(func() string { return pick(g.dice, g.respell(value), g.number()) })
		case "properties", "required", "patternProperties", "dependentRequired", "additionalProperties":
			add(func() string { return g.fitObject(root, s, depth) })
		case "items", "prefixItems", "contains", "uniqueItems":
			add(func() string { return g.fitArray(root, s, depth) })
		}
	}
	if len(ways) == 0 {
		return g.dice.any(depth - 1)
	}
	return pick(g.dice, ways...)()
}

func (g grammar) resolve(root map[string]any, ref string) any {
	if name, ok := strings.CutPrefix(ref, "#/$defs/"); ok {
		return root["$defs"].(map[string]any)[name]
	}
	return root
}

func (g grammar) fitObject(root, s map[string]any, depth int) string {
	members := map[string]string{}
	properties, _ := s["properties"].(map[string]any)
	for _, name := range names(properties) {
		if g.roll(4) != 0 {
			members[name] = g.fit(root, properties[name], depth-1)
		}
	}
	required, _ := s["required"].([]any)
	for _, name := range required {
		if members[name.(string)] == "" && g.roll(8) != 0 {
			members[name.(string)] = g.fit(root, s["additionalProperties"], depth-1)
		}
	}
	if g.roll(3) == 0 {
		members[pick(g.dice, someNames...)] = g.fit(root, s["additionalProperties"], depth-1)
	}
	return g.dice.object(members)
}

func (g grammar) fitArray(root, s map[string]any, depth int) string {
	var items []string
	first, _ := s["prefixItems"].([]any)
	for _, sub := range first {
		items = append(items, g.fit(root, sub, depth-1))
	}
	for range g.roll(4) {
		items = append(items, g.fit(root, pick(g.dice, s["items"], s["contains"]), depth-1))
	}
	if g.roll(16) == 0 { // more than are compared one by one
		for i := range 40 {
			items = append(items, strconv.Itoa(i/(1+g.roll(2))))
		}
	}
	return g.dice.array(items[:len(items)-min(len(items), g.roll(2))])
}

// respell writes a decoded value again, perhaps in another way.
func (g grammar) respell(v any) string {
	switch v := v.(type) {
	case json.Number:
		text := string(v)
		switch g.roll(4) {
		case 0:
			if !strings.ContainsAny(text, ".eE") {
				return text + pick(g.dice, ".0", "e0", ".000E+0")
			}
		case 1:
			if !strings.ContainsAny(text, "eE") {
				return text + "e-1"
			}
		}
		return text
	case string:
		return g.quote(v)
	case []any:
		var items []string
		for _, item := range v {
			items = append(items, g.respell(item))
		}
		return g.dice.array(items)
	case map[string]any:
		members := map[string]string{}
		for _, name := range names(v) {
			members[name] = g.respell(v[name])
		}
		return g.dice.object(members)
	}
	text, _ := json.Marshal(v)
	return string(text)
}
