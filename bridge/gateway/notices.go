package gateway

import (
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// notices come from the system when something changes in a directory.
type notices struct {
	watcher *fsnotify.Watcher // nil: the system gives none
	failure error             // then
	changes <-chan fsnotify.Event
	errors  <-chan error
	log     *slog.Logger
	said    bool // that there are none
}

func newNotices(log *slog.Logger) *notices {
	w, err := fsnotify.NewWatcher()
	if err != nil { // too many programs have one
		return &notices{failure: err, log: log}
	}
	return &notices{watcher: w, changes: w.Events, errors: w.Errors, log: log}
}

// watch asks for notices of these files, and of no others. It reports whether there will be notices of all of them.
func (n *notices) watch(files watchlist) (complete bool) {
	err := n.ask(files)
	if err != nil && !n.said {
		n.log.Info("the system gives no notices of changed files; they are looked at every second", "error", err)
	}
	n.said = err != nil
	return err == nil
}

func (n *notices) ask(files watchlist) (err error) {
	if n.watcher == nil {
		return n.failure
	}
	dirs := files.directories()
	for _, dir := range n.watcher.WatchList() {
		if !dirs[dir] {
			_ = n.watcher.Remove(dir) // or it is gone
		}
	}
	for dir := range dirs {
		if failure := n.watcher.Add(dir); failure != nil {
			err = fmt.Errorf("%s: %w", dir, failure)
		}
	}
	return err
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
