package journal

import (
	"errors"
	"fmt"
)

var (
	// ErrFull: the disk has no room, or Options.MaxBytes are live. Nothing of the group was kept. Once messages are settled, or
	// somebody makes room, the journal takes groups again by itself.
	ErrFull = errors.New("the journal is full: messages have to be settled, or room made on its disk")
	// ErrTooLarge: the group is larger than half a segment and never fits. Options.SegmentSize says how large that is.
	ErrTooLarge = errors.New("the group is larger than half a segment of the journal")
	// ErrClosed: the journal was closed before the group was written.
	ErrClosed = errors.New("the journal is closed")
	// ErrLocked: another process, or another Journal of this one, has the directory.
	ErrLocked = errors.New("the journal's directory is in use: end the other program, or give this one a directory of its own")
	// ErrVersion: the files are of a version that this one does not read.
	ErrVersion = errors.New("the journal was written by another version")
	// ErrNotFound: the state has no such key.
	ErrNotFound = errors.New("no such key in the journal")
)

// Damage is what can't be read as it was written: records that had been accepted and are gone.
type Damage struct {
	// Segment is the number of the file, 0: several.
	Segment uint32
	// First and Last are the numbers of the records. Both are 0 if they are unknown, because nothing of the file is readable.
	First, Last uint64
	// Kind is what they are, 0 if the file no longer says it. Among such records may be some that were settled or replaced
	// already, or that only said so.
	Kind Kind
	// Key is the lane or the state; empty if the file no longer says it.
	Key string
	// Unconfirmed: they are the last that were written, and the file does not say that the disk had them. Most likely the
	// crash cut the write short, and they were promised to nobody.
	Unconfirmed bool
	// Err is why, as an error of the disk; nil: the bytes are others than were written.
	Err error
}

// Count returns how many records are gone; 0: unknown.
func (d *Damage) Count() int {
	if d.First == 0 {
		return 0
	}
	return int(d.Last - d.First + 1)
}

func (d *Damage) Error() string {
	why := "damaged on the disk"
	switch {
	case d.Err != nil:
		why = "unreadable: " + d.Err.Error()
	case d.Unconfirmed:
		why = "cut short by a crash, or damaged on the disk"
	}
	what := fmt.Sprintf("%v %d", d.Kind, d.First)
	if d.First == 0 {
		what = "all records"
	} else if d.Last > d.First {
		what = fmt.Sprintf("%ss %d to %d", d.Kind, d.First, d.Last)
	}
	if d.Key != "" {
		what += fmt.Sprintf(" of %q", d.Key)
	}
	return fmt.Sprintf("%s, segment %d: %s", what, d.Segment, why)
}

// Unwrap returns the error of the disk.
func (d *Damage) Unwrap() error { return d.Err }
