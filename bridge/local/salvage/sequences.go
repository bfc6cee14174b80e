package salvage

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/minio/highwayhash"
)

// The server trusts the sequence in a record's header before it looks at the record's checksum. From one that a flipped
// bit has put far beyond the one before it, it fills the gap in memory, number by number: the start never ends. So before
// JetStream starts, such a sequence is put in line. The checksum is wrong as before, so the server finds the record
// damaged when it reads it, and what is lost is counted like any other.
//
// A record in a file of the server's (store version 2.10 to 2.15):
//
//	length u32, with a bit for headers; sequence u64, with bits for what is erased; time i64; subject's length u16;
//	subject, headers' length u32, headers, payload; checksum u64 of sequence, time, subject and what follows
const (
	blockHeader    = 22
	blockChecksum  = 8
	blockHeaders   = 1 << 31 // in length
	blockErased    = 1 << 63 // in sequence
	blockTombstone = 1 << 62 // the same; no record of its own
	blockLargest   = 32 << 20

	// mostSkipped is more than the sequences that a block can ever have had.
	mostSkipped = 1 << 24
	// mostAligned is how much of the files is looked at, the newest first: flash is slow, and so would be the start.
	mostAligned = 64 << 20
)

// Sequences looks at the files of JetStream in a store directory. What can't be read is the server's to tell. A stream
// that the server was removing when it ended has a dot before its name: nobody reads it any more, and its checksums are of
// the name that it had.
func Sequences(dir string, log *slog.Logger) {
	paths, _ := fs.Glob(os.DirFS(dir), "jetstream/*/streams/[^.]*/msgs/*.blk")
	type block struct {
		path string
		info fs.FileInfo
	}
	var blocks []block
	for _, path := range paths {
		path = filepath.Join(dir, filepath.FromSlash(path))
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			blocks = append(blocks, block{path, info})
		}
	}
	slices.SortFunc(blocks, func(a, b block) int { return b.info.ModTime().Compare(a.info.ModTime()) })
	left := int64(mostAligned)
	for _, b := range blocks {
		if left -= b.info.Size(); left < 0 {
			return
		}
		n, err := alignBlock(b.path)
		if err != nil {
			log.Debug("a file of the store can't be looked at before the start", "file", b.path, "error", err)
		}
		if n > 0 {
			log.Error("sequences of stored records are damaged on the disk; the records are set aside as damaged", "file", b.path, "records", n)
		}
	}
}

// alignBlock puts the damaged sequences of a file in line and returns how many there were.
func alignBlock(path string) (n int, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	stream := filepath.Base(filepath.Dir(filepath.Dir(path)))
	index, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), ".blk"), 10, 32)
	if err != nil {
		return 0, nil // none of the server's
	}
	r := blockReader{f: f, in: bufio.NewReaderSize(f, 64<<10), key: sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, index))}
	var before *record
	for {
		now, err := r.next()
		if now == nil || err != nil {
			if n > 0 {
				err = errors.Join(err, f.Sync())
			}
			return n, err
		}
		if before != nil && now.sequence-before.sequence-1 >= mostSkipped { // also when it goes back
			if bad, better := r.whose(before, now); bad != nil { // else the server knows why
				if err := r.put(bad, better); err != nil {
					return n, err
				}
				n++
			}
		}
		before = now
	}
}

// record is one of a file.
type record struct {
	at       int64
	length   uint32
	headers  bool
	flags    uint64 // of the sequence
	sequence uint64
}

type blockReader struct {
	f   *os.File
	in  *bufio.Reader
	at  int64
	key [sha256.Size]byte
}

// next returns the next record that is no tombstone; nil at the end, or where the file can't be read any further.
func (r *blockReader) next() (*record, error) {
	for {
		var h [blockHeader]byte
		switch _, err := io.ReadFull(r.in, h[:]); {
		case err == io.EOF, err == io.ErrUnexpectedEOF:
			return nil, nil
		case err != nil:
			return nil, err
		}
		length, sequence := binary.LittleEndian.Uint32(h[:]), binary.LittleEndian.Uint64(h[4:])
		now := &record{at: r.at, length: length &^ blockHeaders, headers: length&blockHeaders != 0,
			flags: sequence & (blockErased | blockTombstone), sequence: sequence &^ (blockErased | blockTombstone)}
		if now.length < blockHeader+blockChecksum || now.length > blockLargest {
			return nil, nil
		}
		if _, err := r.in.Discard(int(now.length) - blockHeader); err != nil {
			return nil, nil
		}
		r.at += int64(now.length)
		if now.flags&blockTombstone == 0 || !r.good(now) { // the bit may be the damage
			return now, nil
		}
	}
}

// whose tells which of two neighbours has the damaged sequence, and which would be in line; nil: neither.
func (r *blockReader) whose(before, now *record) (bad *record, better uint64) {
	switch {
	case !r.good(now):
		return now, before.sequence + 1
	case !r.good(before) && now.sequence > 1:
		return before, now.sequence - 1
	}
	return nil, 0
}

// good reports whether a record's checksum is right.
func (r *blockReader) good(of *record) bool {
	b := make([]byte, of.length)
	if _, err := r.f.ReadAt(b, of.at); err != nil {
		return false
	}
	body, sum := b[blockHeader:len(b)-blockChecksum], b[len(b)-blockChecksum:]
	subject := int(binary.LittleEndian.Uint16(b[20:]))
	rest := subject
	if of.headers {
		rest += 4
	}
	if rest > len(body) {
		return false
	}
	h, err := highwayhash.NewDigest64(r.key[:])
	if err != nil {
		return false
	}
	_, _ = h.Write(b[4:20])
	_, _ = h.Write(body[:subject])
	_, _ = h.Write(body[rest:])
	return bytes.Equal(h.Sum(nil), sum)
}

// put writes another sequence.
func (r *blockReader) put(of *record, sequence uint64) error {
	of.sequence, of.flags = sequence, 0
	_, err := r.f.WriteAt(binary.LittleEndian.AppendUint64(nil, sequence), of.at+4)
	return err
}
