package gateway

import (
	"os"
	"path/filepath"
	"testing"

	"fleetbridge/schemas"
)

// TestSharedSchemas: Things that bring the same files have them compiled once.
func TestSharedSchemas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "type.json")
	if err := os.WriteFile(path, []byte(`{"properties":{"a":{"type":"int"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "reported.schema.json"), []byte(`{}`), 0o600); err != nil {
		t.Fatal(err)
	}
	own := t.TempDir()
	catalog, err := schemas.New(schemas.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := &Config{Things: []Thing{{Name: "a", ThingType: path}, {Name: "b", ThingType: path}, {Name: "c", ThingType: path, SchemaDir: own}, {Name: "d"}}}
	got, err := cfg.Schemas(catalog)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got["a"] == nil || got["a"] != got["b"] || got["c"] == got["a"] || got["d"] != nil {
		t.Errorf("got %v", got)
	}
}
