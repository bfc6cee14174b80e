package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Options are a journal's. The zero value is good for most.
type Options struct {
	// SegmentSize is the size of a file in bytes; 0: a 64th of the disk, at least 1 MiB, at most 16 MiB, unless LargestGroup
	// needs more. A group may have half of it. Four more than are needed are kept as reserve.
	SegmentSize int64
	// LargestGroup is how many bytes a group may have at the least, if SegmentSize is 0.
	LargestGroup int64
	// MaxBytes is how much may be live before groups that are not urgent get ErrFull; 0: what the disk has room for.
	MaxBytes int64
	// MinFree is how many bytes of the disk are left to others.
	MinFree int64
	// Interval is how long lazy groups may stay unsynced; 0: no group is lazy.
	Interval time.Duration
	// FS is the disk; nil: OS.
	FS FS
	// Log gets changes of state: the disk fails, works again, is full. nil: nobody.
	Log *slog.Logger
}

const (
	minSegment     = 1 << 20
	maxSegment     = 16 << 20
	segmentsOfDisk = 64
)

// complete fills in what was left out.
func (o *Options) complete(dir string) error {
	if o.FS == nil {
		o.FS = OS()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := o.FS.MakeDir(dir); err != nil {
		return err
	}
	if o.SegmentSize != 0 {
		return nil
	}
	_, total, err := o.FS.Space(dir)
	if err != nil {
		return err
	}
	o.SegmentSize = alignUp(max(min(max(total/segmentsOfDisk, minSegment), maxSegment), 2*o.LargestGroup), headerAlign)
	return nil
}

// Journal is an open journal. Its methods may be called from several goroutines.
type Journal struct {
	dir     string
	options Options
	lock    io.Closer
	damage  []Damage

	intake intake
	writer writer // the committer's alone

	mu    sync.Mutex
	index index

	// files is held for reading from the lookup in the index until the bodies are read. Before files are removed or reused it
	// is taken once for writing, to wait for the readers.
	files sync.RWMutex

	ended    chan struct{} // the committer's end
	closeErr error
}

// Open opens the journal of a directory, which is made if it is not there, and locks it. Damage says what could not be
// read. It fails with ErrLocked, with ErrVersion, as the disk does, or as ctx, which ends the reading.
func Open(ctx context.Context, dir string, o Options) (*Journal, error) {
	if err := o.complete(dir); err != nil {
		return nil, fmt.Errorf("journal %s: %w", dir, err)
	}
	lock, err := o.FS.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", dir, err)
	}
	j := &Journal{dir: dir, options: o, lock: lock, intake: newIntake(), index: newIndex(), ended: make(chan struct{})}
	if err := j.recover(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", dir, err), j.closeFiles())
	}
	go j.run()
	return j, nil
}

// Close waits for the groups that were taken, writes what Settle and Checkpoint have said, and closes the files.
func (j *Journal) Close() error {
	j.intake.close()
	<-j.ended
	return j.closeErr
}

func (j *Journal) closeFiles() error {
	j.files.Lock()
	defer j.files.Unlock()
	var errs []error
	for _, s := range slices.Concat(j.index.segments, j.writer.spares, j.writer.leftovers) {
		errs = append(errs, s.file.Close())
	}
	return errors.Join(append(errs, j.lock.Close())...)
}

// Damage returns what Open could not read, oldest first. It is found again at each start, until the other records of its
// file are gone. A damaged body is reported when it is read.
func (j *Journal) Damage() []Damage { return j.damage }

// Settle says that the messages of a lane are done up to a number, that one included, and returns the backlog that is left.
// The next write carries this; until then a crash brings the messages back. Of several calls for a lane the highest number counts, and none above
// the newest record's.
func (j *Journal) Settle(lane string, number uint64) Backlog {
	j.mu.Lock()
	defer j.mu.Unlock()
	l := j.index.lanes[lane]
	if l == nil {
		return Backlog{Lane: lane}
	}
	j.settle(l, number)
	return l.backlog()
}

// Last returns the number of the newest record.
func (j *Journal) Last() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.index.last
}

// LargestGroup returns how many bytes a group may have.
func (j *Journal) LargestGroup() int64 { return j.maxBatch() }

// Checkpoint does for the view records what Settle does for a lane.
func (j *Journal) Checkpoint(number uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.settle(&j.index.views, number)
}

func (j *Journal) settle(l *lane, number uint64) {
	if number = min(number, j.index.last); number <= l.floor {
		return
	}
	j.index.settle(l, number)
	j.index.soil(l)
	if j.index.reclaimable() {
		j.intake.nudge()
	}
}

// Size is how large a journal is.
type Size struct {
	Live     int64 // about how many bytes of the files are records that are not gone
	Files    int64 // bytes of the files, with the reserve
	Messages int   // in lanes
	Views    int   // view records
	States   int
}

// Size returns how large the journal is.
func (j *Journal) Size() Size {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := Size{Live: j.index.live, Files: j.index.reserve, Views: j.index.views.queue.len}
	for _, segment := range j.index.segments {
		s.Files += segment.size
	}
	for _, l := range j.index.lanes {
		s.Messages += l.queue.len
	}
	for _, state := range j.index.states {
		if !state.deleted {
			s.States++
		}
	}
	return s
}

// Backlog is what a lane holds.
type Backlog struct {
	Lane     string
	Messages int
	Bytes    int64  // of the bodies
	First    uint64 // number of the oldest message; 0: there is none
}

// Backlog returns what a lane holds.
func (j *Journal) Backlog(lane string) Backlog {
	j.mu.Lock()
	defer j.mu.Unlock()
	if l := j.index.lanes[lane]; l != nil {
		return l.backlog()
	}
	return Backlog{Lane: lane}
}

// Lanes returns the lanes that hold something, the one with the oldest message first.
func (j *Journal) Lanes() []Backlog {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []Backlog
	for _, l := range j.index.lanes {
		if l.queue.len > 0 {
			all = append(all, l.backlog())
		}
	}
	slices.SortFunc(all, func(a, b Backlog) int { return cmp.Compare(a.First, b.First) })
	return all
}

func (l *lane) backlog() Backlog {
	b := Backlog{Lane: l.key, Messages: l.queue.len, Bytes: l.bytes}
	if l.queue.len > 0 {
		b.First = l.queue.chunks[0][0].number
	}
	return b
}
