package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

// found is a file of the directory.
type found struct {
	*segment
	scan  *scanner
	begin int64 // of its first batch; 0: it has no header that can be read
	blank bool  // nothing was ever written to it
	header
}

// recover builds the index from the files.
func (j *Journal) recover(ctx context.Context) error {
	files, err := j.findFiles(ctx)
	if err != nil {
		return err
	}
	w := &j.writer
	w.next = 1
	var spares []*segment
	newest := -1 // the one whose header says which segments there are
	for i, f := range files {
		w.newest = max(w.newest, f.number())
		if f.begin != 0 {
			newest = i
		}
	}
	for i, f := range files {
		switch {
		case i > newest && f.blank && f.size == j.options.SegmentSize:
			spares = append(spares, f.segment)
			continue
		case i > newest && f.blank:
			j.discard(f.segment)
			continue
		case i > newest: // its header is damaged, or was cut short
			j.damage = append(j.damage, Damage{Segment: f.number(), Unconfirmed: true})
		}
		if i != newest && !(newest >= 0 && files[newest].names(f.number())) {
			w.leftovers = append(w.leftovers, f.segment)
		}
	}
	if newest >= 0 {
		if err := j.readAll(ctx, files[:newest+1]); err != nil {
			return err
		}
	}
	slices.SortStableFunc(j.damage, func(a, b Damage) int { return cmp.Compare(a.First, b.First) })
	j.index.end()
	j.index.sweep()
	if err := j.keep(spares); err != nil {
		return err
	}
	j.topUp()
	return nil
}

func (h *header) names(segment uint32) bool {
	return slices.ContainsFunc(h.older, func(e extent) bool { return e.segment == segment })
}

// maxBlanks is how many files without a batch a journal may have: spares, and what a crash left of them.
const maxBlanks = 256

// findFiles opens the files of segments, the oldest first, and reads their headers.
func (j *Journal) findFiles(ctx context.Context) ([]found, error) {
	numbers, err := segmentNumbers(j.options.FS, j.dir)
	if err != nil {
		return nil, err
	}
	var files []found
	blanks := 0
	for _, number := range numbers {
		f := found{segment: &segment{extent: extent{segment: number}}}
		if f.file, err = j.options.FS.Open(j.path(number)); err == nil {
			f.scan, err = newScanner(ctx, f.file)
		}
		if err != nil {
			return nil, errors.Join(err, closeAll(files))
		}
		f.size = f.scan.size
		if f.size > math.MaxUint32 {
			err = errors.New("is too large for a segment")
		} else {
			f.header, f.begin, f.blank, err = f.scan.header(number)
		}
		if f.blank {
			blanks++
		}
		switch {
		case ctx.Err() != nil:
			err = ctx.Err()
		case blanks > maxBlanks:
			err = fmt.Errorf("more than %d files %s are blank, and a journal has a few: something else made them, move them away", maxBlanks, suffix)
		}
		files = append(files, f)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("segment %d: %w", number, err), closeAll(files))
		}
	}
	return files, nil
}

func closeAll(files []found) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.file.Close())
	}
	return errors.Join(errs...)
}

func segmentNumbers(fs FS, dir string) (numbers []uint32, err error) {
	names, err := fs.List(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, name := range names {
		base, ok := strings.CutSuffix(name, suffix)
		if n, err := strconv.ParseUint(base, 10, 32); ok && err == nil && n > 0 {
			numbers = append(numbers, uint32(n))
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// readAll reads the segments that the header of the newest names, and the newest.
func (j *Journal) readAll(ctx context.Context, files []found) error {
	newest := files[len(files)-1]
	for _, e := range newest.older {
		i := slices.IndexFunc(files, func(f found) bool { return f.number() == e.segment })
		if i < 0 || files[i].begin == 0 {
			j.lost(e.segment, e.first, e.last, false)
			if i >= 0 {
				_ = files[i].file.Close()
			}
			continue
		}
		files[i].extent = e
		if j.readSegment(files[i]); ctx.Err() != nil {
			return ctx.Err()
		}
	}
	confirmed, last, from, to := newest.promised()
	newest.extent = extent{segment: newest.number(), first: newest.header.first, last: last}
	j.readSegment(newest)
	j.unfinished(newest, confirmed, last)
	if ctx.Err() != nil { // what was read may be less than there is
		return ctx.Err()
	}
	j.writer.next, j.writer.synced, j.index.last = last+1, last, last
	return newest.confirm(from, to)
}

// confirm makes sure that what counts is on the disk. That it can be read proves nothing, and a sync would not either: after
// a failed sync the pages stay in the page cache and count as clean. So the bytes between two places are written once more.
func (f *found) confirm(from, to int64) error {
	if from == f.begin { // then the header, which makes other segments void, may not be on the disk either
		from, to = 0, min(max(to, f.begin), f.size)
	}
	if from >= to {
		return nil
	}
	b := make([]byte, to-from)
	if err := readFull(f.file, b, from); err != nil {
		return err
	}
	if _, err := f.file.WriteAt(b, from); err != nil {
		return err
	}
	return f.file.Sync()
}

// promised returns the last number of the newest segment that was known to be on the disk, and the last number that counts:
// behind the confirmed batches, whole ones count, too. These lie between the two places from and to.
func (f *found) promised() (confirmed, last uint64, from, to int64) {
	confirmed = f.header.first - 1
	f.each(func(b scanned) { confirmed = max(confirmed, b.synced) })
	last, from = confirmed, f.begin
	f.each(func(b scanned) {
		switch {
		case b.last() <= confirmed:
			from = b.end
		case b.first == last+1 && f.scan.whole(b):
			last, to = b.last(), b.end
		}
	})
	return confirmed, last, from, to
}

// each calls a function for the batches of the file.
func (f *found) each(do func(scanned)) {
	for at := f.begin; ; {
		b, ok := f.scan.next(at)
		if !ok {
			return
		}
		do(b)
		at = b.end
	}
}

// readSegment adds a segment to the index. Numbers that are missing in it are reported as damage.
func (j *Journal) readSegment(f found) {
	j.index.begin(f.segment)
	f.scan.known = j.index.known
	want := f.extent.first
	f.each(func(b scanned) {
		if b.first < want || b.last() > f.last {
			return
		}
		j.lost(f.number(), want, b.first-1, false)
		j.index.apply(&b.batch, f.number(), b.bodiesAt)
		want = b.last() + 1
	})
	j.lost(f.number(), want, f.last, false)
}

// known returns the key of a lane without making a string anew.
func (x *index) known(key []byte) string {
	if l := x.lanes[string(key)]; l != nil {
		return l.key
	}
	return string(key)
}

// unfinished reports batches that don't count because they are not whole.
func (j *Journal) unfinished(f found, confirmed, last uint64) {
	f.each(func(b scanned) {
		if b.first > last {
			j.lost(f.number(), b.first, b.last(), true)
		}
	})
}

func (j *Journal) lost(segment uint32, first, last uint64, unconfirmed bool) {
	if first <= last {
		j.damage = append(j.damage, Damage{Segment: segment, First: first, Last: last, Unconfirmed: unconfirmed})
	}
}
