//go:build !windows

package sightings

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"fleetbridge/bridge"
)

// limited is how long a test waits for what should happen at once.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func listen(t *testing.T, dir string) net.Listener {
	t.Helper()
	l, err := Listen(limited(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestSocketIsPrivate(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(Dir(dir), 0o777); err != nil { // as an older version, or a person, left it
		t.Fatal(err)
	}
	if err := os.Chmod(Dir(dir), 0o777); err != nil {
		t.Fatal(err)
	}
	l := listen(t, dir)
	for path, want := range map[string]os.FileMode{Dir(dir): os.ModeDir | 0o700, filepath.Join(Dir(dir), socketName): os.ModeSocket | 0o600} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	if _, err := Listen(limited(t), dir); !errors.Is(err, ErrInUse) {
		t.Errorf("a second bridge: %v", err)
	}
	_ = l.Close()
	if _, err := os.Lstat(filepath.Join(Dir(dir), socketName)); err == nil {
		t.Error("the socket stays")
	}
}

func TestSocketOfAKilledBridge(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(Dir(dir), socketName)
	l := listen(t, dir)
	_ = l.(*listener).UnixListener.Close() // without removing it
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	_ = listen(t, dir).Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(limited(t), dir); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a file in the place of the socket: %v", err)
	}
}

func TestLongSocketPath(t *testing.T) {
	if runtime.GOOS != "linux" {
		return
	}
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	l := listen(t, dir)
	go func() {
		if nc, err := l.Accept(); err == nil {
			_ = nc.Close()
		}
	}()
	nc, err := Dial(limited(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.Close()
	_ = l.Close()
	if _, err := os.Lstat(filepath.Join(Dir(dir), socketName)); err == nil {
		t.Error("the socket stays")
	}
}

// serve serves a recorder, and returns its store directory.
func serve(t *testing.T, r *Recorder, stop chan struct{}) string {
	t.Helper()
	dir := t.TempDir()
	server := &http.Server{Handler: r.Handler("v1", stop), ReadTimeout: 50 * time.Millisecond}
	l := listen(t, dir)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); r.Close() })
	return dir
}

// Who does not read holds up nobody, and is told afterwards how much was left out; a stop ends the tail with a word.
func TestViewerThatDoesNotRead(t *testing.T) {
	w := &bridge.Watch{}
	r := NewRecorder(w)
	stop := make(chan struct{})
	dir := serve(t, r, stop)
	const sent = 20_000
	flooded := false
	shown, skipped, bye := uint64(0), uint64(0), ""
	err := Follow(limited(t), dir, Filter{}, func(l Line) error {
		if !flooded { // the first line has come, and no more is read before the flood is over
			payload := strings.Repeat("x", maxPayload)
			for range sent {
				r.Saw(seen("t", payload))
			}
			flooded = true
			close(stop)
		}
		if l.Record != nil {
			shown++
		}
		if skipped += l.Skipped; l.Skipped != l.By.Sum() {
			t.Errorf("a gap of %d has %s", l.Skipped, l.By)
		}
		bye += l.Bye
		return nil
	})
	if shown+skipped != sent || shown == 0 || skipped == 0 || bye == "" {
		t.Errorf("%d shown and %d not shown of %d; %q, %v", shown, skipped, sent, bye, err)
	}
}

// A tail that shows nothing for long goes on, however short the server's patience with requests is.
func TestQuietTail(t *testing.T) {
	r := NewRecorder(&bridge.Watch{})
	dir := serve(t, r, make(chan struct{}))
	ctx, enough := context.WithCancel(limited(t))
	var got []string
	time.AfterFunc(300*time.Millisecond, func() { r.Saw(seen("t", "late")) })
	_ = Follow(ctx, dir, Filter{}, func(l Line) error {
		if l.Record != nil {
			got = append(got, l.Head())
			enough()
		}
		return nil
	})
	if len(got) != 1 || got[0] != "late" {
		t.Errorf("got %q", got)
	}
	kept, err := Kept(limited(t), dir)
	if err != nil || len(kept) != 1 || kept[0].Head() != "late" {
		t.Errorf("kept %v, %v", kept, err)
	}
}

func TestTailsAreBounded(t *testing.T) {
	r := NewRecorder(&bridge.Watch{})
	dir := serve(t, r, make(chan struct{}))
	for range maxTails {
		r.open(Filter{})
	}
	if err := Follow(limited(t), dir, Filter{}, func(Line) error { return nil }); !errors.Is(err, ErrRefused) {
		t.Errorf("one more: %v", err)
	}
}
