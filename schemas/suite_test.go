package schemas

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Schemas of the test suite that are the library's alone, and what nodes lack for them.
var librarysOwn = []string{
	"defs.json: validate definition against metaschema: $dynamicRef",
	"not.json: collect annotations inside a 'not', even if collection is disabled: unevaluatedProperties",
	"ref.json: remote ref, containing refs itself: $dynamicRef",
	"ref.json: ref creates new scope when adjacent to keywords: unevaluatedProperties",
}

// The public JSON Schema Test Suite, by the library and by the nodes.
func TestSuite(t *testing.T) {
	paths, err := filepath.Glob("testdata/suite/draft2020-12/*.json")
	if err != nil || len(paths) < 30 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	var alone []string
	checked := 0
	for _, path := range paths {
		var groups []struct {
			Description string
			Schema      json.RawMessage
			Tests       []struct {
				Description string
				Data        json.RawMessage
				Valid       bool
			}
		}
		if err := json.Unmarshal(read(t, path), &groups); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, g := range groups {
			name := filepath.Base(path) + ": " + g.Description
			c := compileText(g.Schema)
			if c == nil {
				t.Errorf("%s: does not compile", name)
				continue
			}
			if c.quick == nil {
				alone = append(alone, name+": "+c.lacks)
			}
			for _, test := range g.Tests {
				var s scanner
				if err := s.scan(test.Data, Limits{}); err != nil {
					t.Errorf("%s: %s: %v", name, test.Description, err)
					continue
				}
				if c.quick != nil && agree(t, c, g.Schema, test.Data) == open {
					t.Errorf("%s: %s: the nodes can't tell", name, test.Description)
				}
				if err := c.check(context.Background(), &s.tape, 0); (err == nil) != test.Valid {
					t.Errorf("%s: %s: %v, want valid: %v", name, test.Description, err, test.Valid)
				}
				checked++
			}
		}
	}
	if !slices.Equal(alone, librarysOwn) {
		t.Errorf("without nodes:\n%s", strings.Join(alone, "\n"))
	}
	if checked < 838 {
		t.Errorf("%d cases only", checked)
	}
	t.Logf("%d cases", checked)
}
