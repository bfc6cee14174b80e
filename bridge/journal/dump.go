package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Dump writes what is in the files of a journal, for people: headers, batches, records, damage; of bodies only their
// lengths. It changes nothing and takes no lock, so it works beside a running journal, of which it may miss the newest
// writes.
func Dump(w io.Writer, dir string) error { return dump(w, osFS{flags: os.O_RDONLY}, dir) }

func dump(w io.Writer, fs FS, dir string) error {
	numbers, err := segmentNumbers(fs, dir)
	if err != nil {
		return err
	}
	for _, number := range numbers {
		err := dumpSegment(w, fs, filepath.Join(dir, fileName(number)), number)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // it may have gone meanwhile
			return fmt.Errorf("segment %d: %w", number, err)
		}
	}
	return nil
}

func dumpSegment(w io.Writer, fs FS, name string, number uint32) error {
	file, err := fs.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	scan, err := newScanner(context.Background(), file)
	if err != nil {
		return err
	}
	f := found{segment: &segment{file: file}, scan: scan}
	f.header, f.begin, f.blank, err = scan.header(number)
	switch {
	case err != nil:
		return err
	case f.blank:
		_, err = fmt.Fprintf(w, "segment %d: spare, %d bytes\n", number, scan.size)
		return err
	case f.begin == 0:
		_, err = fmt.Fprintf(w, "segment %d: no header that can be read, %d bytes\n", number, scan.size)
		return err
	}
	if _, err := fmt.Fprintf(w, "segment %d: from record %d, %d bytes\n", number, f.header.first, scan.size); err != nil {
		return err
	}
	for _, e := range f.older {
		if _, err := fmt.Fprintf(w, "  segment %d counts from %d to %d\n", e.segment, e.first, e.last); err != nil {
			return err
		}
	}
	f.each(func(b scanned) {
		if err == nil {
			err = f.dumpBatch(w, b)
		}
	})
	return err
}

func (f *found) dumpBatch(w io.Writer, b scanned) error {
	written := time.UnixMilli(b.time).UTC().Format("2006-01-02T15:04:05.000Z")
	if _, err := fmt.Fprintf(w, "  batch at %d, written %s, synced before to %d\n", b.bodiesAt, written, b.synced); err != nil {
		return err
	}
	at := b.bodiesAt
	for i, r := range b.records {
		line := fmt.Sprintf("    %d %v", b.first+uint64(i), r.kind)
		if r.key != "" {
			line += fmt.Sprintf(" %q", r.key)
		}
		if own := b.first + uint64(i); r.ref != own {
			line += fmt.Sprintf(" of %d", r.ref)
		}
		if r.kind.hasBody() {
			line += fmt.Sprintf(", %d bytes%s", r.size, f.bodyState(r, at))
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
		at += int64(r.size)
	}
	return nil
}

func (f *found) bodyState(r record, at int64) string {
	body := make([]byte, r.size)
	switch {
	case r.lost:
		return ", damaged before it was moved"
	case readFull(f.scan.file, body, at) != nil:
		return ", UNREADABLE"
	case checksum(body) != r.sum:
		return ", DAMAGED"
	}
	return ""
}
