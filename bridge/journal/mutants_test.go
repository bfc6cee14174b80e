package journal_test

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var mutate = flag.Bool("mutants", false, "build the journal with each fault of the list, and see the simulation find it")

// mutants are faults that a test must find: in the file, old becomes new.
var mutants = []struct{ name, file, old, new string }{
	{"directories are not synced", "space.go",
		"if err := j.options.FS.SyncDir(j.dir); err != nil {", "if err := error(nil); err != nil {"},
	{"bodies are not checked", "read.go",
		"|| checksum(body) != p.sum", ""},
	{"answered before the sync", "writer.go",
		"\tif sync {\n", "\tif sync && b.first == 0 {\n"},
	{"the last batch counts, whole or not", "scan.go",
		"if readFull(s.file, body, at) != nil || checksum(body) != r.sum {", "if readFull(s.file, body, at) != nil {"},
	{"a floor counts as written when its batch is made", "commit.go",
		"\t\t\treturn\n\t\t}\n\t\tb.add(r)\n", "\t\t\treturn\n\t\t}\n\t\tb.add(r)\n\t\tl.dirty = false\n"},
	{"a failed segment goes on", "writer.go",
		"\ts := w.current\n\tj.seal()\n", "\ts := w.current\n"},
	{"what failed counts", "writer.go",
		"s.last = max(w.synced, s.first-1)", "s.last = w.next + 2"},
	{"what was answered before a failed sync is not written again", "writer.go",
		"w.rescues = append(w.rescues,", "_ = append(w.rescues,"},
	{"a segment goes on after its successor failed", "writer.go",
		"\t\tj.seal()\n\t\tj.discard(s)\n", "\t\tj.discard(s)\n"},
	{"a deletion is forgotten too early", "space.go",
		"s.deleted && s.segment == leaving && !x.holds(s.held, leaving)", "s.deleted && s.segment == leaving"},
	{"a floor is forgotten too early", "space.go",
		"case x.holds(l.held, leaving):", "case false:"},
	{"what the last run wrote is taken for durable", "recover.go",
		"return newest.confirm(from, to)", "_, _ = from, to\n\treturn nil"},
	{"a batch calls synced what is not", "commit.go",
		"synced: w.synced,", "synced: w.next - 1,"},
	{"a moved message gets a new number", "space.go",
		"ref: p.number}, p)", "ref: 0}, p)"},
	{"a segment goes while something in it is live", "writer.go",
		"case s.live > 0 ||", "case s.live > s.size/8 ||"},
}

// TestMutants: the texts of the list are in the files, once each; with -mutants every fault is found by a history, or by a test of its own.
func TestMutants(t *testing.T) {
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			source, err := os.ReadFile(m.file)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(source), m.old); n != 1 {
				t.Fatalf("%s has %q %d times", m.file, m.old, n)
			}
			if *mutate {
				findMutant(t, m.file, strings.Replace(string(source), m.old, m.new, 1))
			}
		})
	}
}

func findMutant(t *testing.T, file, source string) {
	dir := t.TempDir()
	path, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	mutant, overlay := filepath.Join(dir, file), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{path: mutant}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{mutant: []byte(source), overlay: replace} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), "go", "test", "-overlay", overlay, "-run", "^(TestSimulate|TestFailedBegin)$", "-timeout", "5m", ".", "-seeds", "3000").CombinedOutput()
	_, found, _ := strings.Cut(string(out), "_test.go:")
	if err == nil || found == "" {
		t.Fatalf("nothing found it: %v\n%s", err, out)
	}
	t.Log(strings.SplitN(found, "\n", 2)[0])
}
