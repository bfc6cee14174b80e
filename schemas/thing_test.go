package schemas

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// write makes a schema directory of files.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func load(t testing.TB, files map[string]string) *ThingSchemas {
	t.Helper()
	s, err := catalog(t).LoadThing(write(t, files))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var thermostat = map[string]string{
	"reported.schema.json": `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object",
		"properties":{"temperature":{"$ref":"common/units.json#/$defs/celsius"},"mode":{"enum":["auto","off"]}},
		"propertyNames":{"maxLength":12}}`,
	"common/units.json":                          `{"$defs":{"celsius":{"type":"number","minimum":-40,"maximum":85}}}`,
	"events/highTemperature.schema.json":         `{"type":"object","required":["celsius"],"properties":{"celsius":{"$ref":"../common/units.json#/$defs/celsius"}}}`,
	"events/com=2Eacme=2Eboot=20now.schema.json": `{"additionalProperties":false}`,
	"commands/setTemperature.schema.json":        `{"required":["value"],"properties":{"value":{"type":"number","exclusiveMinimum":5}}}`,
	"commands/=E2=82=AC/.keep":                   "",
	"commands/=E2=82=AC.schema.json":             `false`,
	"README.md":                                  "not a schema",
	".hidden/x.json":                             "{",
}

func TestThingSchemas(t *testing.T) {
	s := load(t, thermostat)
	for _, c := range []struct {
		err  error
		want string
	}{
		{s.checkPart(context.Background(), s.reported, []byte(`{"temperature":21.5,"mode":"auto","other":[1]}`)), ""},
		{s.checkPart(context.Background(), s.reported, []byte(`{"temperature":85.00000000000000000001}`)), "/temperature: must be a number from -40 to 85, is 85.00000000000000000001"},
		{s.checkPart(context.Background(), s.reported, []byte(`{"temperature":"warm","mode":"on"}`)), `/mode: "on" is not allowed, use one of auto, off; /temperature: must be a number from -40 to 85, is the string "warm"`},
		{s.checkPart(context.Background(), s.reported, []byte(`{"a/very/long/name":1}`)), `/a~1very~1long~1name: is not allowed as a name: must be a string of at most 12 characters, has 16 characters`},
		{s.checkPart(context.Background(), s.events["highTemperature"], []byte(`{"celsius":45.2}`)), ""},
		{s.checkPart(context.Background(), s.events["highTemperature"], []byte(`{"celsius":145.2}`)), "/celsius: must be a number from -40 to 85, is 145.2"},
		{s.checkPart(context.Background(), s.events["highTemperature"], nil), "/celsius: is missing, add it"},
		{s.checkPart(context.Background(), s.events["highTemperature"], []byte("null")), "must be an object, is null"},
		{s.checkPart(context.Background(), s.events["com.acme.boot now"], []byte(`{"a":1}`)), "/a: is not allowed here, remove it"},
		{s.checkPart(context.Background(), s.events["com.acme.boot now"], nil), ""},
		{s.Check(context.Background(), "event", []byte(`{"eventType":"unknown","data":17}`)), ""},
		{s.checkPart(context.Background(), s.commands["setTemperature"], []byte(`{"value":24}`)), ""},
		{s.checkPart(context.Background(), s.commands["setTemperature"], []byte(`{"value":5}`)), "/value: must be a number above 5, is 5"},
		{s.Check(context.Background(), "command.request", []byte(`{"action":"setTemperature","params": null }`)), "/params/value: is missing, add a number above 5"},
		{s.checkPart(context.Background(), s.commands["setTemperature"], nil), "/value: is missing, add a number above 5"},
		{s.checkPart(context.Background(), s.commands["€"], nil), "is not allowed here, remove it"},
		{s.Check(context.Background(), "command.request", []byte(`{"action":"unknown"}`)), ""},
		{s.Check(context.Background(), "command.request", []byte(`{"action":"setTemperature"}`)), "/params/value: is missing, add a number above 5"},
	} {
		var e *Error
		switch {
		case c.want == "" && c.err != nil:
			t.Errorf("got %v, want nil", c.err)
		case c.want != "" && (!errors.As(c.err, &e) || e.Code != CodeSchema || e.Error() != c.want):
			t.Errorf("got  %v\nwant %s", c.err, c.want)
		}
	}
}

func TestNoThingSchemas(t *testing.T) {
	var none *ThingSchemas
	empty := load(t, nil)
	for _, s := range []*ThingSchemas{none, empty} {
		for channel, payload := range map[string]string{
			"shadow.report":   `{"state":{"reported":[]}}`,
			"event":           `{"eventType":"a"}`,
			"command.request": `{"action":"a","params":1}`,
		} {
			if err := s.Check(context.Background(), channel, []byte(payload)); err != nil {
				t.Errorf("what has no schema must pass: %s: %v", channel, err)
			}
		}
	}
}

// Every keyword has words of its own.
func TestThingMessages(t *testing.T) {
	for _, c := range []struct{ schema, value, want string }{
		{`{"anyOf":[{"type":"string"},{"type":"null"}]}`, `5`, "must be a string or null, is 5"},
		{`{"anyOf":[{"type":"null"},{"type":"object","required":["a"]}]}`, `{}`, "/a: is missing, add it"},
		{`{"oneOf":[{"required":["a"]},{"required":["b"]}]}`, `{}`, "matches none of the allowed forms: /a: is missing, add it; or /b: is missing, add it"},
		{`{"oneOf":[{"required":["a"]},{"required":["b"]}]}`, `{"a":1,"b":1}`, "matches more than one of the forms of which the schema wants one"},
		{`{"allOf":[{"required":["a"]},{"required":["b"]}]}`, `{}`, "/a: is missing, add it; /b: is missing, add it"},
		{`{"allOf":[{"required":["a"]},{"required":["a"]}]}`, `{}`, "/a: is missing, add it"},
		{`{"not":{"required":["a"]}}`, `{"a":1}`, "is what the schema forbids (keyword not)"},
		{`{"if":{"required":["a"]},"then":{"required":["b"]}}`, `{"a":1}`, "/b: is missing, add it"},
		{`{"properties":{"a":{"const":"on"}}}`, `{"a":"off"}`, `/a: "off" is not allowed, use on`},
		{`{"properties":{"a":{"enum":[1,null,"a b",[2]]}}}`, `{"a":true}`, `/a: true is not allowed, use one of 1, null, "a b", [2]`},
		{`{"properties":{"a":{"multipleOf":0.5}}}`, `{"a":0.7}`, "/a: must be a number that is a multiple of 0.5, is 0.7"},
		{`{"properties":{"a":{"type":"integer"}}}`, `{"a":1.0}`, ""},
		{`{"properties":{"a":{"maximum":9007199254740993}}}`, `{"a":9007199254740994}`, "/a: must be a number of at most 9007199254740993, is 9007199254740994"},
		{`{"properties":{"a":{"pattern":"^x+$"}}}`, `{"a":"xy"}`, `/a: must be a string that matches ^x+$, is the string "xy"`},
		{`{"properties":{"a":{"minLength":2}}}`, `{"a":"ä"}`, "/a: must be a string of at least 2 characters, has 1 character"},
		{`{"properties":{"a":{"minLength":1}}}`, `{"a":""}`, "/a: must be a string that is not empty, is empty"},
		{`{"properties":{"a":{"format":"date-time"}}}`, `{"a":"now"}`, ""},
		{`{"properties":{"a":{"minItems":1,"maxItems":2}}}`, `{"a":[]}`, "/a: must be an array of 1 to 2 items, has 0 items"},
		{`{"properties":{"a":{"uniqueItems":true}}}`, `{"a":[1,2,1.0]}`, "/a: items 0 and 2 are equal, remove one"},
		{`{"properties":{"a":{"contains":{"const":1}}}}`, `{"a":[2]}`, "/a: breaks the schema's keyword contains"},
		{`{"properties":{"a":{"prefixItems":[{}],"items":false}}}`, `{"a":[1,2]}`, "/a/1: is not allowed here, remove it"},
		{`{"properties":{"a":{"minProperties":1}}}`, `{"a":{}}`, "/a: must be an object of at least 1 member, has 0 members"},
		{`{"properties":{"a":{"maxProperties":1}}}`, `{"a":{"b":1,"c":2}}`, "/a: must be an object of at most 1 member, has 2 members"},
		{`{"$ref":"#"}`, `{}`, "can't be checked: the schema refers to itself without end"},
		{`{"dependentRequired":{"a":["b"]}}`, `{"a":1}`, `/b: is missing, add it; "a" asks for it`},
		{`{"properties":{"a":{}},"unevaluatedProperties":false}`, `{"b":1}`, "/b: is not allowed here, remove it"},
		{`{"patternProperties":{"^x":{"type":"boolean"}}}`, `{"x/1":"yes"}`, `/x~11: must be true or false, is the string "yes"`},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","dependencies":{"a":["b"]}}`, `{"a":1}`, `/b: is missing, add it; "a" asks for it`},
		{`{"properties":{"a":{"propertyNames":{"pattern":"^x"}},"b":{"properties":{"c":{"type":"null"}}},"d":{"type":"null"}}}`, `{"A":{"y":1},"a":{"y":1},"b":{"c":1},"d":1}`,
			`/a/y: is not allowed as a name: must be a string that matches ^x, is the string "y"; /b/c: must be null, is 1; /d: must be null, is 1`},
	} {
		s := load(t, map[string]string{"reported.schema.json": c.schema})
		for range 5 { // maps have no order, messages have
			got := ""
			if err := s.checkPart(context.Background(), s.reported, []byte(c.value)); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("%s\n%s\n got %s\nwant %s", c.schema, c.value, got, c.want)
				break
			}
		}
	}
}

func TestThingProblemsAreToldAtOnce(t *testing.T) {
	dir := write(t, map[string]string{
		"reported.schema.json":          "{\n  \"type\": \"object\",\n  \"properties\": {\n    \"a\": {\"type\": \"int\"},\n    \"b\": {\"minimum\": \"1\"}\n  }\n}",
		"report.schema.json":            `{}`,
		"event/boot.schema.json":        `{}`,
		"events/boot.json":              `{}`,
		"events/a b.schema.json":        `{}`,
		"events/=61.schema.json":        `{}`,
		"events/a=2Fb.schema.json":      `{}`,
		"events/broken.schema.json":     "{\n\"a\":1,\n\"a\":2}",
		"events/usesBroken.schema.json": `{"$ref":"broken.schema.json"}`,
		"events/missing.schema.json":    "{\n\"$ref\": \"../nowhere.json\"}",
		"events/outside.schema.json":    `{"$ref":"../../../../etc/passwd"}`,
		"events/anchor.schema.json":     `{"$ref":"#/$defs/none"}`,
		"commands/regex.schema.json":    `{"properties":{"a":{"pattern":"(?=x)"}}}`,
		"commands/remote.schema.json":   `{"items":{"$ref":"https://127.0.0.1:1/x.json"}}`,
		"commands/regexKey.schema.json": `{"properties":{"x":{"items":{"patternProperties":{"(":{},"a":{}}}},"y":{"type":"string"}}}`,
		"commands/draft.schema.json":    `{"$schema":"http://json-schema.org/draft-99/schema#"}`,
		"commands/id.schema.json":       `{"$id":"http://[x"}`,
		"commands/anchor.schema.json":   `{"$ref":"#nope"}`,
		"commands/badref.schema.json":   `{"$ref":"http://[x"}`,
		"commands/scalar.schema.json":   `17`,
		"commands/Upper.Schema.JSON":    `{}`,
	})
	_, err := catalog(t).LoadThing(dir)
	if err == nil {
		t.Fatal("no error")
	}
	got := strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), "")
	want := strings.Join([]string{
		`commands/Upper.Schema.JSON: nothing reads this file; name it reported.schema.json, events/{type}.schema.json or commands/{action}.schema.json, or refer to it with $ref`,
		`commands/anchor.schema.json:1: /$ref: refers to commands/anchor.schema.json#nope, where nothing is`,
		`commands/badref.schema.json:1: /$ref: "http://[x" is not in the format uri-reference: parse "http://[x": missing ']' in host`,
		`commands/draft.schema.json:1: /$schema: http://json-schema.org/draft-99/schema can't be used: it is not in the directory, and schemas are never fetched from elsewhere; put a copy beside the others`,
		`commands/id.schema.json: is no usable schema: error in parsing id at "commands/id.schema.json#"`,
		"commands/regex.schema.json:1: /properties/a/pattern: \"(?=x)\" is no regular expression in the syntax of RE2: error parsing regexp: invalid or unsupported Perl syntax: `(?=`",
		"commands/regexKey.schema.json:1: /properties/x/items/patternProperties/(: is not allowed as a name: \"(\" is no regular expression in the syntax of RE2: error parsing regexp: missing closing ): `(`",
		`commands/remote.schema.json:1: /items/$ref: https://127.0.0.1:1/x.json can't be used: it is not in the directory, and schemas are never fetched from elsewhere; put a copy beside the others`,
		`commands/scalar.schema.json:1: must be an object or true or false, is 17`,
		`event/boot.schema.json: nothing reads this file; name it reported.schema.json, events/{type}.schema.json or commands/{action}.schema.json, or refer to it with $ref`,
		`events/=61.schema.json: the file's name is not an event type spelled as a token: token "=61": "=61" is needless, write "a"`,
		`events/a b.schema.json: the file's name is not an event type spelled as a token: token "a b": byte ' ' must be written =20`,
		`events/a=2Fb.schema.json: the file's name is not an event type spelled as a token: id "a/b": contains '/', which MQTT topics reserve`,
		`events/anchor.schema.json:1: /$ref: refers to events/anchor.schema.json#/$defs/none, where nothing is`,
		`events/boot.json: nothing reads this file; name it reported.schema.json, events/{type}.schema.json or commands/{action}.schema.json, or refer to it with $ref`,
		`events/broken.schema.json:3: /a: byte 9: is there twice, remove one`,
		`events/missing.schema.json:2: /$ref: nowhere.json can't be used: there is no file nowhere.json in the directory`,
		`events/outside.schema.json:1: /$ref: etc/passwd can't be used: there is no file etc/passwd in the directory`,
		`events/usesBroken.schema.json:1: /$ref: events/broken.schema.json can't be used: events/broken.schema.json is no JSON`,
		`report.schema.json: nothing reads this file; name it reported.schema.json, events/{type}.schema.json or commands/{action}.schema.json, or refer to it with $ref`,
		"reported.schema.json:4: /properties/a/type: \"int\" is not allowed, use one of array, boolean, integer, null, number, object, string",
		"reported.schema.json:5: /properties/b/minimum: must be a number, is the string \"1\"",
	}, "\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var f *FileError
	if !errors.As(err, &f) || f.File == "" {
		t.Errorf("no *FileError in %T", err)
	}
}

func TestThingDirectory(t *testing.T) {
	c := catalog(t)
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "none"):                  "no such file or directory",
		write(t, map[string]string{"f": ""}) + "/f": "is a file, name the directory",
	} {
		if _, err := c.LoadThing(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	// Files and directories behind links count, as mounted configuration has them; a link to a parent
	// directory ends.
	real := write(t, map[string]string{"boot.schema.json": `{"required":["a"]}`})
	if err := os.Symlink(real, filepath.Join(dir, "events")); err != nil {
		t.Fatal(err)
	}
	s, err := c.LoadThing(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.checkPart(context.Background(), s.events["boot"], nil) == nil {
		t.Error("the schema behind the link is not used")
	}
	if err := os.Symlink(dir, filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.LoadThing(dir); err == nil || !strings.Contains(err.Error(), "nested deeper") {
		t.Errorf("a directory in itself: %v", err)
	}
	big := write(t, map[string]string{"reported.schema.json": `{"title":"` + strings.Repeat("x", MaxFileBytes) + `"}`})
	if _, err := c.LoadThing(big); err == nil || !strings.Contains(err.Error(), "has more than 1MiB") {
		t.Errorf("a huge file: %v", err)
	}
}

// Files may know each other by $id.
func TestThingIDs(t *testing.T) {
	s := load(t, map[string]string{
		"reported.schema.json": `{"$id":"https://acme.example/pump/reported.json","properties":{"a":{"$ref":"common.json#/$defs/a"}}}`,
		"shared.json":          `{"$id":"https://acme.example/pump/common.json","$defs":{"a":{"type":"boolean"}}}`,
	})
	if err := s.checkPart(context.Background(), s.reported, []byte(`{"a":1}`)); err == nil || err.Error() != "/a: must be true or false, is 1" {
		t.Error(err)
	}
	_, err := catalog(t).LoadThing(write(t, map[string]string{
		"reported.schema.json":   "{\n\"$id\":\"https://acme.example/a\"}",
		"commands/a.schema.json": "{\n\"$id\":\"https://acme.example/a\"}",
	}))
	if err == nil || !strings.Contains(err.Error(), "reported.schema.json:2: /$id: is the $id of commands/a.schema.json too") {
		t.Error(err)
	}
}

// A schema that names a server is refused without asking it.
func TestThingNeverFetches(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{}`))
	}))
	server.Config.ConnState = func(net.Conn, http.ConnState) { asked.Add(1) }
	server.Start()
	defer server.Close()
	for _, schema := range []string{
		`{"$ref":"` + server.URL + `/x.json"}`, `{"$schema":"` + server.URL + `/meta.json"}`,
		`{"$id":"` + server.URL + `/a/b.json","$ref":"c.json"}`, `{"$dynamicRef":"` + server.URL + `/x.json#a"}`,
		`{"$ref":"file:///etc/hostname"}`,
	} {
		_, err := catalog(t).LoadThing(write(t, map[string]string{"reported.schema.json": schema}))
		if err == nil || !strings.Contains(err.Error(), "not in the directory") {
			t.Errorf("%s: %v", schema, err)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}
