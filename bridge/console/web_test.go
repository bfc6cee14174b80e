package console

import (
	"bytes"
	"compress/gzip"
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

// The page stays small enough for a slow line, and nothing in it makes markup of text or asks another host.
func TestPage(t *testing.T) {
	const maxFiles, maxRaw, maxPacked, maxLines = 25, 150 << 10, 52 << 10, 1800
	files, raw, packed, lines := 0, 0, 0, 0
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacent|document\.write|unsafeHTML|\beval\(|new Function|style=|https?://[a-z]`)
	eachFile(t, func(name string, data []byte) {
		switch path.Ext(name) {
		case ".js", ".css":
			raw += len(data)
			packed += size(t, data)
		case ".html", ".svg":
		default:
			return
		}
		files++
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
	t.Logf("%d files, %d bytes, %d compressed, %d lines", files, raw, packed, lines)
	if files > maxFiles || raw > maxRaw || packed > maxPacked || lines > maxLines {
		t.Errorf("%d files, %d bytes, %d compressed, %d lines of our own; at most %d, %d, %d, %d", files, raw, packed, lines, maxFiles, maxRaw, maxPacked, maxLines)
	}
}

func size(t *testing.T, data []byte) int {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Len()
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
