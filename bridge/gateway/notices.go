package gateway

import (
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// notices come from the system when something changes in a directory.
type notices struct {
	watcher *fsnotify.Watcher // nil: the system gives none
	changes <-chan fsnotify.Event
	errors  <-chan error
}

func newNotices() *notices {
	w, err := fsnotify.NewWatcher()
	if err != nil { // too many programs have one; then files are looked at all the time
		return &notices{}
	}
	return &notices{w, w.Events, w.Errors}
}

// watch asks for notices of these files, and of no others. It reports whether all of them can be watched.
func (n *notices) watch(files watchlist) (complete bool) {
	if n.watcher == nil {
		return false
	}
	dirs := files.directories()
	for _, dir := range n.watcher.WatchList() {
		if !dirs[dir] {
			_ = n.watcher.Remove(dir) // or it is gone
		}
	}
	complete = true
	for dir := range dirs {
		complete = n.watcher.Add(dir) == nil && complete
	}
	return complete
}

func (n *notices) close() {
	if n.watcher != nil {
		_ = n.watcher.Close()
	}
}

// directories are those in which something changes when one of the files does, or a link that leads there does.
func (w watchlist) directories() map[string]bool {
	out := map[string]bool{}
	for path, info := range w.states {
		out[filepath.Dir(path)] = true
		if info != nil && info.IsDir() {
			out[path] = true
		}
		if real, err := filepath.EvalSymlinks(path); err == nil && info != nil && real != path {
			out[filepath.Dir(real)] = true
		}
	}
	return out
}
