package local

import (
	"os"
	"path/filepath"
	"testing"
)

// TestStaging: batches are kept in memory until they are committed, after a restart as well, and nothing
// of that is left at the end.
func TestStaging(t *testing.T) {
	dir, err := memoryDir(t.TempDir())
	if err != nil {
		t.Logf("no file system in memory: %v; batches are staged on the disk", err)
		return
	}
	_ = os.Remove(dir)
	r := newRig(t, "pump")
	link := filepath.Join(r.dir, "jetstream", "$G", "streams", "FLEETS_DOWN", "batches")
	for range 2 {
		target, err := os.Readlink(link)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(target); err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
			t.Fatalf("%s: %v %v", target, info, err)
		}
		r.stop()
		if _, err := os.Stat(filepath.Dir(target)); !os.IsNotExist(err) {
			t.Errorf("left behind: %s, %v", filepath.Dir(target), err)
		}
		r.start(ServerConfig{}, StoreConfig{})
	}
}

// TestStagingOfSomebodyElse: a directory that others may write into is not used.
func TestStagingOfSomebodyElse(t *testing.T) {
	store := t.TempDir()
	dir, err := memoryDir(store)
	if err != nil {
		t.Logf("no file system in memory: %v", err)
		return
	}
	defer os.Remove(dir)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := memoryDir(store); err == nil {
		t.Error("used")
	}
}
