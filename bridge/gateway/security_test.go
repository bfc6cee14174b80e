package gateway

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"fleetbridge/bridge/local/wire"
)

// TestNamedTests: every test that the tables of a page name is there, in the package that the page says.
func TestNamedTests(t *testing.T) {
	t.Parallel()
	there := declaredTests(t)
	for _, page := range []struct {
		name, without string // without: the package of tests that are named without one
		least         int
	}{{"security.md", "bridge/local", 200}, {"traps.md", "bridge", 100}} {
		named := namedTests(t, page.name, page.without)
		if len(named) < page.least {
			t.Errorf("docs/%s names only %d tests", page.name, len(named))
		}
		for _, n := range named {
			in := there[n.test]
			if !slices.ContainsFunc(in, func(dir string) bool {
				return dir == n.in || n.in == "bridge/local" && strings.HasPrefix(dir, n.in+"/")
			}) {
				t.Errorf("docs/%s: %s is not in %s, but in %q", page.name, n.test, n.in, in)
			}
		}
	}
}

// declaredTests are the packages that have a test, by its name.
func declaredTests(t *testing.T) map[string][]string {
	t.Helper()
	out, declared := map[string][]string{}, regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(\w+ \*testing\.[TF]\)`)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		dir := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "../../")
		for _, m := range declared.FindAllSubmatch(text, -1) {
			out[string(m[1])] = append(out[string(m[1])], dir)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

type namedTest struct{ in, test string }

// namedTests reads the last column of a page's tables: groups with a semicolon between them, each with its package in front.
func namedTests(t *testing.T, page, without string) (out []namedTest) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docsDir, page))
	if err != nil {
		t.Fatal(err)
	}
	word, isTest := regexp.MustCompile("`([\\w/]+)[^`]*`|\\be2e\\b"), regexp.MustCompile(`^(Test|Fuzz)[A-Z]`)
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSuffix(strings.TrimSpace(line), "|"), "|")
		for group := range strings.SplitSeq(cells[len(cells)-1], ";") {
			in := without
			for _, m := range word.FindAllStringSubmatch(group, -1) {
				switch test, _, _ := strings.Cut(m[1], "/"); {
				case len(cells) < 3 || strings.HasSuffix(m[0], "…`") && !strings.Contains(m[0], "/"): // no table, or all of a kind
				case m[0] == "e2e":
					in = "bridge/gateway"
				case isTest.MatchString(test):
					out = append(out, namedTest{in, test})
				default:
					in = m[1]
				}
			}
		}
	}
	return out
}

// TestLongClientID: what is remembered of a client id, however long, has a key that NATS takes. A client_id of 50,000 bytes in an
// entry of the registry made a line for which the NATS server ended the connections of all bridges, after each start again.
func TestLongClientID(t *testing.T) {
	keys := map[string]bool{}
	for _, id := range []string{"pump", strings.Repeat("\x7f", 256), strings.Repeat("\x7f", 257), strings.Repeat("\x7f", 65535)} {
		key := newFilterMemory(nil, id).key
		if keys[key] = true; len(key) > wire.LongestSubject/2 {
			t.Errorf("of a client id of %d bytes the key has %d", len(id), len(key))
		}
	}
	if len(keys) != 4 {
		t.Errorf("%d keys", len(keys))
	}
}
