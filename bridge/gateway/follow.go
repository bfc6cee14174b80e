package gateway

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"time"

	"fleetbridge/internal/plainfile"
)

// File is a configuration file that a running gateway follows: the file itself and all that it names, but
// for the store.
type File struct {
	path string
	env  func(string) (string, bool)
	seen watchlist // as it was read last
}

// NewFile names a configuration file; env is os.LookupEnv, or a test's.
func NewFile(path string, env func(string) (string, bool)) *File { return &File{path: path, env: env} }

// Load is the function Load, and remembers what the files looked like. It is not called while Follow runs.
// It returns when ctx ends.
func (f *File) Load(ctx context.Context) (*Config, error) {
	c, seen, err := loadUntil(ctx, f.path, f.env, Edit{})
	f.seen = seen
	return c, err
}

const (
	// followInterval is how long files must look alike until they are read.
	followInterval = time.Second
	// followRest is how often they are looked at without a notice. Network and FUSE file systems give none of what others
	// change, and nor does a link in the middle of several.
	followRest = 30 * time.Second
	// followMost is how many looks see other files each time until they are read all the same: somebody may write all the
	// time.
	followMost = 10
)

// Follow reads the configuration again when again says so or a file has changed, and has the gateway
// take it over, until ctx ends. A file counts as changed when it looks alike twice, and other than when it
// was read: who writes several, or one in pieces, is waited for, for a while.
func (g *Gateway) Follow(ctx context.Context, f *File, again <-chan os.Signal) {
	n := newNotices(g.log)
	defer n.close()
	complete, looking := n.watch(f.seen), true // what changed before the first notice could come is seen by a look
	var before *watchlist
	unlike := 0 // looks in a row that saw other files
	for {
		changes, rest := n.changes, followRest
		if looking || !complete {
			changes, rest = nil, followInterval // a file that is written all the time, as a log beside them, costs no more than that
		}
		looking = false
		select {
		case <-ctx.Done():
			return
		case <-again:
			before, unlike = nil, 0
			g.takeOver(ctx, f)
			complete, looking = n.watch(f.seen), true
			continue
		case <-changes:
			looking = true
		case <-n.errors: // notices were lost
			looking = true
		case <-time.After(rest):
		}
		now := f.seen.again()
		switch {
		case now.same(f.seen):
			before, unlike = nil, 0
		case (before == nil || !now.same(*before)) && unlike < followMost:
			before, looking = &now, true
			unlike++
		default:
			if unlike == followMost {
				g.log.Warn("the configuration's files change all the time; they are read as they are now", "mend", "write each in one piece, and seldom")
			}
			before, unlike = nil, 0
			g.takeOver(ctx, f)
			complete, looking = n.watch(f.seen), true
		}
	}
}

// takeOver reads the configuration and has the gateway work with it.
func (g *Gateway) takeOver(ctx context.Context, f *File) {
	c, err := f.Load(ctx)
	if err == nil {
		err = f.named(g.Reload(ctx, c))
	}
	if ctx.Err() == nil {
		g.told(err)
	}
}

// named says of problems which file they are about.
func (f *File) named(err error) error {
	problems, ok := err.(Problems)
	for i := range problems {
		problems[i].File = f.path
	}
	if !ok {
		return err
	}
	return problems
}

// watchlist is what files looked like at one time.
type watchlist struct {
	roots  []root
	states map[string]os.FileInfo // nil: it is not there
}

// root is a file, or a directory and depth levels of what is in it.
type root struct {
	path  string
	depth int
}

// schemaDepth reaches the files in events and commands of a schema_dir.
const schemaDepth = 2

// add takes note of how a file looks now; what it holds is read after that.
func (w *watchlist) add(r root) {
	if w.states == nil {
		w.states = map[string]os.FileInfo{}
	}
	w.roots = append(w.roots, r)
	walk(r, func(path string, info os.FileInfo) { w.states[path] = info })
}

// take adds the files of another list, as they looked then.
func (w *watchlist) take(o watchlist) {
	if w.states == nil {
		w.states = map[string]os.FileInfo{}
	}
	w.roots = append(w.roots, o.roots...)
	maps.Copy(w.states, o.states)
}

// again looks at the same files.
func (w *watchlist) again() watchlist {
	var out watchlist
	for _, r := range w.roots {
		out.add(r)
	}
	return out
}

// same reports whether nothing looks different. A link that leads elsewhere is another file.
func (w watchlist) same(o watchlist) bool {
	if len(w.states) != len(o.states) {
		return false
	}
	for path, a := range w.states {
		b, there := o.states[path]
		switch {
		case !there || (a == nil) != (b == nil):
			return false
		case a != nil && !(os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()):
			return false
		}
	}
	return true
}

// walk calls f for a file, and for what is in a directory; links are followed. info is nil for what is
// not there or can't be looked at.
func walk(r root, f func(path string, info os.FileInfo)) {
	info, err := os.Stat(r.path)
	if err != nil {
		f(r.path, nil)
		return
	}
	f(r.path, info)
	if !info.IsDir() || r.depth == 0 {
		return
	}
	entries, _ := plainfile.List(r.path, maxParts) // what can't be listed is refused when it is read
	for _, e := range entries {
		walk(root{filepath.Join(r.path, e.Name()), r.depth - 1}, f)
	}
}
