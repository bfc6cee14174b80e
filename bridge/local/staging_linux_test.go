package local

import (
	"os"
	"path/filepath"
	"testing"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
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

// TestStagingRemoved: what somebody has removed from memory is made again; nothing is refused until then.
func TestStagingRemoved(t *testing.T) {
	r := newRig(t, "pump")
	dir := r.server.memory
	if dir == "" {
		t.Log("no file system in memory: batches are staged on the disk")
		return
	}
	for n := range 2 {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			r.server.keepStaged()
			if _, err := os.Stat(filepath.Join(dir, "FLEETS_DOWN")); err != nil {
				t.Error(err)
			}
		}
		downs(t, r, 300)
	}
}

// downs stores so many messages at once, in groups.
func downs(t *testing.T, r *rig, n int) {
	t.Helper()
	done := make(chan error, n)
	m := bridge.Message{Address: mapping.Address{Thing: "pump", Channel: mapping.JobsNotify}}
	for range n {
		if err := r.store.Down().Send(testContext(t), m, func(err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-testContext(t).Done():
			t.Fatal("not stored")
		}
	}
}
