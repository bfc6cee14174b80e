package schemas

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"fleetbridge/mapping"
)

var update = flag.Bool("update", false, "write the expected errors beside the invalid payloads")

func catalog(t testing.TB) *Catalog {
	t.Helper()
	c, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// cases lists the payload files of a kind, by channel.
func cases(t testing.TB, kind string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := filepath.WalkDir(filepath.Join("testdata", kind), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".json") {
			channel := filepath.Base(filepath.Dir(path))
			out[channel] = append(out[channel], path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestValidPayloadsPass(t *testing.T) {
	c := catalog(t)
	for channel, paths := range cases(t, "valid") {
		for _, path := range paths {
			if err := c.Check(context.Background(), channel, read(t, path)); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

// The golden file beside a payload holds the code, then a line for each detail. Regenerate with
// go test -update, and read the difference.
func TestInvalidPayloadsAreRefused(t *testing.T) {
	c := catalog(t)
	for channel, paths := range cases(t, "invalid") {
		for _, path := range paths {
			var e *Error
			if err := c.Check(context.Background(), channel, read(t, path)); !errors.As(err, &e) {
				t.Errorf("%s: got %v, want an *Error", path, err)
				continue
			}
			var got strings.Builder
			got.WriteString(string(e.Code) + "\n")
			for _, d := range e.Details {
				got.WriteString(d.String() + "\n")
			}
			golden := strings.TrimSuffix(path, ".json") + ".error"
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if want := string(read(t, golden)); got.String() != want {
				t.Errorf("%s:\n got %swant %s", path, got.String(), want)
			}
		}
	}
}

func TestEverySchemaHasEnoughCases(t *testing.T) {
	valid, invalid := cases(t, "valid"), cases(t, "invalid")
	least := map[string]int{ShadowDocument: 2}
	for _, r := range mapping.Routes() {
		least[string(r.Channel)] = 2
		if r.Direction == mapping.Up {
			least[string(r.Channel)] = 3
		}
	}
	for name, n := range least {
		if len(valid[name]) < n || len(invalid[name]) < n {
			t.Errorf("%s: %d valid and %d invalid payloads, want at least %d each", name, len(valid[name]), len(invalid[name]), n)
		}
	}
	for _, kind := range []map[string][]string{valid, invalid} {
		for name := range kind {
			if least[name] == 0 {
				t.Errorf("testdata for %s, which is no schema", name)
			}
		}
	}
}

func TestSchemasAndRoutesMatch(t *testing.T) {
	files, err := fs.Glob(embedded, "*"+suffix)
	if err != nil {
		t.Fatal(err)
	}
	var have, want []string
	for _, f := range files {
		have = append(have, strings.TrimSuffix(f, suffix))
	}
	for _, r := range mapping.Routes() {
		want = append(want, string(r.Channel))
	}
	want = append(want, ShadowDocument)
	c := catalog(t)
	if names := c.Names(); !slices.Equal(names, want) {
		t.Errorf("Names() = %v, want %v", names, want)
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("schema files %v, want %v", have, want)
	}
	for _, name := range have {
		ch := c.channels[name]
		for _, k := range []string{"$schema", "title", "description"} {
			if s, _ := ch.keywords[k].(string); s == "" {
				t.Errorf("%s: no %s", name, k)
			}
		}
		if ch.keywords["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
			t.Errorf("%s: $schema is %v", name, ch.keywords["$schema"])
		}
		if want := "https://fleetbridge.dev/schemas/" + name + suffix; ch.keywords["$id"] != want {
			t.Errorf("%s: $id is %v, want %s", name, ch.keywords["$id"], want)
		}
		if !bytes.Equal(c.Source(name), read(t, name+suffix)) {
			t.Errorf("%s: Source is not the file", name)
		}
		// Schemas without references can be read, and copied, alone.
		if strings.Contains(string(ch.source), `"$ref"`) {
			t.Errorf("%s: has a $ref", name)
		}
	}
}

// What goes up is closed: a member that the protocol does not know is refused. What comes down is
// open at every level.
func TestStrictUpOpenDown(t *testing.T) {
	c := catalog(t)
	for _, r := range mapping.Routes() {
		closed := strings.Contains(string(c.channels[string(r.Channel)].source), `"additionalProperties"`)
		if up := r.Direction == mapping.Up; closed != up {
			t.Errorf("%s: direction %s, closed %v", r.Channel, r.Direction, closed)
		}
	}
}

func TestCheckUnknownName(t *testing.T) {
	c := catalog(t)
	err := c.Check(context.Background(), "shadow.reports", []byte(`{}`))
	var e *Error
	if err == nil || errors.As(err, &e) || !strings.Contains(err.Error(), "shadow.report,") {
		t.Errorf("got %v, want a plain error that lists the names", err)
	}
	if c.Source("x") != nil || c.Rules("x") != nil {
		t.Error("Source and Rules of an unknown name are not nil")
	}
}

func TestOptionsBoundPayloads(t *testing.T) {
	c, err := New(Options{MaxBytes: 40, MaxDepth: 3})
	if err != nil {
		t.Fatal(err)
	}
	for payload, want := range map[string]string{
		`{"state":{"reported":{"a":1}}}`:                 "",
		`{"state":{"reported":{"a":[]}}}`:                "/state/reported/a: byte 26: is nested deeper than 3 levels, flatten it",
		`{"state":{"reported":{"abcdefghijklmn":1234}}}`: "has 46 bytes, at most 40 are allowed",
	} {
		err := c.Check(context.Background(), "shadow.report", []byte(payload))
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", payload, err)
			}
			continue
		}
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeTooLarge || e.Error() != want {
			t.Errorf("%s: got %v, want too_large: %s", payload, err, want)
		}
		if g := c.Guard([]byte(payload)); g == nil || g.Error() != want {
			t.Errorf("%s: Guard says %v", payload, g)
		}
	}
}

// A refusal stays short however much is wrong, and its line is one line.
func TestErrorIsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"state":{"reported":{}}`)
	for i := range 2000 {
		fmt.Fprintf(&b, `,"line\nbreak %04d":1`, i)
	}
	b.WriteString("}")
	payload := b.String()
	err := catalog(t).Check(context.Background(), "shadow.report", []byte(payload))
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeSchema {
		t.Fatalf("got %v", err)
	}
	if len(e.Details) != maxDetails+1 || e.Details[maxDetails].Message != "and 1950 more problems" {
		t.Errorf("%d details, the last %v", len(e.Details), e.Details[len(e.Details)-1])
	}
	if line := e.Error(); len(line) > 2000 || strings.ContainsAny(line, "\n\r") || !strings.HasSuffix(line, "more") {
		t.Errorf("line of %d bytes: %q", len(line), line)
	}
	if !strings.HasPrefix(e.Details[0].Pointer, "/line\nbreak 0000") {
		t.Errorf("the pointer is not the name itself: %q", e.Details[0].Pointer)
	}
}

// What a schema says, which may be a long text, does not go to programs whole.
func TestSchemaTextsAreBounded(t *testing.T) {
	long := strings.Repeat("a", 600)
	for _, k := range []keywords{{"type": "string", "pattern": "^" + long + "\n$"}, {"type": "string", "format": long}, {"const": long}, {"enum": []any{long}}} {
		if got := k.phrase(); len(got) > 200 || strings.Contains(got, "\n") {
			t.Errorf("%d bytes: %q", len(got), got)
		}
	}
}

func TestUnder(t *testing.T) {
	err := Under(PartData, refuse([]Detail{{"/a", "x"}, {"", "y"}}))
	if got := err.Error(); got != "/data/a: x; /data: y" {
		t.Error(got)
	}
	if Under(PartData, nil) != nil || Under(PartData, fs.ErrExist) != fs.ErrExist {
		t.Error("other errors must come back as they are")
	}
}

func TestCheckConcurrently(t *testing.T) {
	c := catalog(t)
	good, bad := []byte(`{"eventType":"boot","severity":"info"}`), []byte(`{"eventType":"boot","severity":"bad","x":1}`)
	want := c.Check(context.Background(), "event", bad).Error()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if err := c.Check(context.Background(), "event", good); err != nil {
					t.Error(err)
				}
				if got := c.Check(context.Background(), "event", bad).Error(); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
		})
	}
	wg.Wait()
}
