package console

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"
)

// The vendored library is what was downloaded.
func TestVendor(t *testing.T) {
	sums, err := web.ReadFile("web/vendor/SUMS")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"SUMS": ""}
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		want[name] = sum
	}
	eachFile(t, func(name string, data []byte) {
		name, vendored := strings.CutPrefix(name, "vendor/")
		if !vendored || name == "SUMS" {
			return
		}
		if sum := sha256.Sum256(data); want[name] != hex.EncodeToString(sum[:]) {
			t.Errorf("%s is not the file that SUMS has; make web-vendor writes both", name)
		}
		delete(want, name)
	})
	delete(want, "SUMS")
	for name := range want {
		t.Errorf("%s is in SUMS and not there", name)
	}
}

// The page stays small enough for a slow line, what it needs at first above all. Nothing in it makes markup of text or asks
// another host.
func TestPage(t *testing.T) {
	const maxFiles, maxFirst, maxPacked, maxLines = 20, 35 << 10, 60 << 10, 1900 // files: at first
	files, first, packed, lines := 0, 0, 0, 0
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacent|document\.write|unsafeHTML|\beval\(|new Function|style=|https?://[a-z]`)
	needed := imported(t, map[string]bool{"index.html": true, "icon.svg": true, "style.css": true}, "app.js")
	eachFile(t, func(name string, data []byte) {
		switch path.Ext(name) {
		case ".js", ".css", ".html", ".svg":
		default:
			return
		}
		files++
		packed += len(pack(data))
		if needed[name] {
			first += len(pack(data))
		}
		if strings.HasPrefix(name, "vendor/") {
			return
		}
		if path.Ext(name) == ".js" {
			lines += bytes.Count(data, []byte("\n"))
		}
		for _, found := range forbidden.FindAllString(string(data), -1) {
			if found != "http://w" { // a namespace
				t.Errorf("%s has %s", name, found)
			}
		}
	})
	t.Logf("%d files, %d bytes compressed, %d in %d files at first, %d lines", files, packed, first, len(needed), lines)
	if len(needed) > maxFiles || first > maxFirst || packed > maxPacked || lines > maxLines || len(needed) == files {
		t.Errorf("%d files at first, %d bytes compressed, %d at first, %d lines of our own; at most %d, %d, %d, %d", len(needed), packed, first, lines, maxFiles, maxPacked, maxFirst, maxLines)
	}
}

var imports = regexp.MustCompile(`from ?["'](\.[^"']+)["']`)

// imported adds a module to those that a browser loads, and all that it imports before it runs.
func imported(t *testing.T, known map[string]bool, name string) map[string]bool {
	if known[name] {
		return known
	}
	known[name] = true
	data, err := web.ReadFile("web/" + name)
	if err != nil {
		t.Error(err)
	}
	for _, m := range imports.FindAllSubmatch(data, -1) {
		imported(t, known, path.Join(path.Dir(name), string(m[1])))
	}
	return known
}

func eachFile(t *testing.T, f func(name string, data []byte)) {
	t.Helper()
	err := fs.WalkDir(web, "web", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := web.ReadFile(name)
		f(strings.TrimPrefix(name, "web/"), data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
