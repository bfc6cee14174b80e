package gateway

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The system tells of every way in which a file can change: written in place, replaced, removed, and behind a link.
func TestNotices(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) func() error {
		return func() error { return os.WriteFile(path(name), []byte(text), 0o600) }
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(path("elsewhere"), 0o700))
	must(os.MkdirAll(path("parts"), 0o700))
	must(write("gw.yaml", "a")())
	must(write("elsewhere/secret", "a")())
	must(os.MkdirAll(path("links"), 0o700))
	must(os.Symlink("../elsewhere/secret", path("links/secret")))
	var files watchlist
	files.add(root{path: path("gw.yaml")})
	files.add(root{path: path("links/secret")})
	files.add(root{path: path("parts"), depth: 1})
	n := newNotices(slog.New(slog.DiscardHandler))
	defer n.close()
	if !n.watch(files) {
		t.Fatal("not everything can be watched")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, c := range []struct {
		what   string
		change func() error
	}{
		{"gw.yaml", write("gw.yaml", "b")},
		{"gw.yaml", func() error { return os.Rename(path("elsewhere/secret"), path("gw.yaml")) }},
		{"secret", write("elsewhere/secret", "b")},
		{"secret", func() error { return os.Remove(path("links/secret")) }},
		{"new.yaml", write("parts/new.yaml", "a")},
	} {
		must(c.change())
		for told := false; !told; {
			select {
			case change := <-n.changes:
				told = filepath.Base(change.Name) == c.what
			case err := <-n.errors:
				t.Fatal(err)
			case <-ctx.Done():
				t.Fatalf("nobody told that %s has changed", c.what)
			}
		}
		if now := files.again(); now.same(files) {
			t.Errorf("%s looks as before", c.what)
		} else {
			files = now
		}
	}
	var missing watchlist
	missing.add(root{path: path("nowhere/file")})
	if n.watch(missing) {
		t.Error("there can be no notices of a directory that is not there")
	}
	if !n.watch(watchlist{}) || len(n.watcher.WatchList()) > 0 {
		t.Error("files of an older configuration are still watched")
	}
}
