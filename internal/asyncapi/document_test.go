package asyncapi

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

var update = flag.Bool("update", false, "write docs/asyncapi.yaml (make docs)")

func subjects(t *testing.T, prefix string) mapping.Subjects {
	t.Helper()
	s, err := mapping.NewSubjects(prefix)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func document(t *testing.T, o Options) Document {
	t.Helper()
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// docs/asyncapi.yaml is what the code says.
func TestDocument(t *testing.T) {
	const path = "../../docs/asyncapi.yaml"
	text, err := document(t, Options{Subjects: subjects(t, "fleets")}).YAML()
	if err != nil {
		t.Fatal(err)
	}
	want := append([]byte("# Made from the code by make docs; do not edit. fleetbridge asyncapi prints it.\n"), text...)
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is stale (%v): run make docs", path, err)
	}
}

// decoded is the document as a reader sees it.
func decoded(t *testing.T, o Options) map[string]any {
	t.Helper()
	text, err := document(t, o).JSON()
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Every route is there in each of its spaces, and every reference leads somewhere.
func TestCompleteAndClosed(t *testing.T) {
	doc := decoded(t, Options{Subjects: subjects(t, "site.a"), Things: []mapping.Thing{"pump 7"}, Host: "gw:4222", Secure: true})
	addresses := map[string]bool{}
	for _, c := range doc["channels"].(map[string]any) {
		if a, ok := c.(map[string]any)["address"].(string); ok {
			addresses[a] = true
		}
	}
	for _, r := range mapping.Routes() {
		spaces := []string{"down", "dead.down"}
		if r.Direction == mapping.Up {
			spaces = []string{"up", "req", "dead.up"}
		}
		for _, space := range spaces {
			if want := "site.a." + space + ".{thing}." + r.Tail; !addresses[want] {
				t.Errorf("%s is missing", want)
			}
		}
	}
	for _, want := range []string{"site.a.req.{thing}.shadow.get", "site.a.cmd.{thing}.{action}", "$KV.SITE_A_SHADOW.{thing}", "$KV.SITE_A_STATUS.{thing}"} {
		if !addresses[want] {
			t.Errorf("%s is missing", want)
		}
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if to, ok := v["$ref"].(string); ok && !resolves(doc, to) {
				t.Errorf("%s leads nowhere", to)
			}
			for _, inner := range v {
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(doc)
	text, _ := json.Marshal(doc)
	if !strings.Contains(string(text), `"enum":["pump=207"]`) || !strings.Contains(string(text), `"host":"gw:4222","protocol":"natss"`) {
		t.Error("the configuration's Things and server are not there")
	}
}

func resolves(doc any, to string) bool {
	for part := range strings.SplitSeq(strings.TrimPrefix(to, "#/"), "/") {
		m, ok := doc.(map[string]any)
		if !ok {
			return false
		}
		if doc, ok = m[part]; !ok {
			return false
		}
	}
	return true
}

// The translated schemas take and refuse what the bridge's own do.
func TestTranslationMeansTheSame(t *testing.T) {
	catalog, err := schemas.New(schemas.Options{})
	if err != nil {
		t.Fatal(err)
	}
	translated := decoded(t, Options{Subjects: subjects(t, "fleets")})["components"].(map[string]any)["schemas"].(map[string]any)
	payloads := []string{
		`{}`, `{"state":{"reported":{"a":1}}}`, `{"state":{"reported":[]}}`, `{"state":{"desired":{}}}`, `{"version":1,"state":{}}`,
		`{"eventType":"x","severity":"info"}`, `{"eventType":"x","severity":"bad"}`, `{"status":"SUCCEEDED"}`, `{"status":"FAILED","result":1}`,
		`{"action":"x"}`, `{"action":""}`, `{"execution":{"jobDocument":{}}}`, `{"execution":{"jobDocument":{},"jobId":"1"}}`,
		`{"stepTimeoutInMinutes":0}`, `{"stepTimeoutInMinutes":10080}`, `{"clientToken":1}`, `{"queuedJobs":[{}]}`, `{"queuedJobs":null}`, `{"jobs":[]}`, `[]`,
	}
	refused := 0
	for _, name := range catalog.Names() {
		compiler := jsonschema.NewCompiler()
		compiler.DefaultDraft(jsonschema.Draft7)
		if err := compiler.AddResource("mem:"+name, translated[name]); err != nil {
			t.Fatal(err)
		}
		schema, err := compiler.Compile("mem:" + name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, p := range payloads {
			v, err := jsonschema.UnmarshalJSON(strings.NewReader(p))
			if err != nil {
				t.Fatal(err)
			}
			ours, theirs := catalog.Check(context.Background(), name, []byte(p)), schema.Validate(v)
			if (ours == nil) != (theirs == nil) {
				t.Errorf("%s %s: the bridge says %v, the document %v", name, p, ours, theirs)
			}
			if ours != nil {
				refused++
			}
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

func TestUnknownWordIsAnError(t *testing.T) {
	v, err := parse([]byte(`{"properties":{"a":{"unevaluatedItems":false}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := draft7(v); err == nil {
		t.Error("unevaluatedItems was taken")
	}
}
