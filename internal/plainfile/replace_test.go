package plainfile

import (
	"os"
	"path/filepath"
	"testing"
)

// A file is replaced by what is other, and keeps its rights; what is no plain file stays.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "a"), filepath.Join(dir, "link")
	if err := os.Symlink("a", link); err != nil {
		t.Skip(err)
	}
	for _, c := range []struct {
		path, data string
		changed    bool
	}{{path, "one", true}, {path, "one", false}, {link, "one", false}, {link, "two", true}} {
		if changed, err := Replace(c.path, []byte(c.data), 10); err != nil || changed != c.changed {
			t.Errorf("%v: %v %v", c, changed, err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if is, err := os.Lstat(link); err != nil || is.Mode().IsRegular() {
		t.Errorf("the link is gone: %v", err)
	}
	if changed, err := Replace(path, []byte("three"), 10); err != nil || !changed {
		t.Error(changed, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "three" {
		t.Errorf("%q %v", data, err)
	}
	for _, odd := range []string{dir, os.DevNull, filepath.Join(dir, "none", "x")} {
		if _, err := Replace(odd, []byte("x"), 10); err == nil {
			t.Errorf("%s was replaced", odd)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("%v %v", left, err)
	}
}
