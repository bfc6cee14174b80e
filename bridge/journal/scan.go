package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// scanner finds batches in the file of a segment. Whatever bytes the file has, it returns only what was written there.
type scanner struct {
	ctx   context.Context // its end is the end of the file
	file  io.ReaderAt
	size  int64
	salt  uint64
	known func([]byte) string // the string of a key, see decodeBatch

	window []byte // bytes of the file
	at     int64  // where they begin
}

const scanWindow = 64 << 10

// scanned is a batch where it was found.
type scanned struct {
	batch
	bodiesAt, end int64
}

func newScanner(ctx context.Context, f File) (*scanner, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	return &scanner{ctx: ctx, file: f, size: size, known: func(b []byte) string { return string(b) }}, nil
}

// bytes returns n bytes of the file, until the next call; nil if they can't be read.
func (s *scanner) bytes(at int64, n int64) []byte {
	if at < 0 || n > s.size-at {
		return nil
	}
	if at < s.at || at+n > s.at+int64(len(s.window)) {
		if s.ctx.Err() != nil {
			return nil
		}
		s.window = append(s.window[:0], make([]byte, min(max(n, scanWindow), s.size-at))...)
		got, _ := s.file.ReadAt(s.window, at)
		s.window, s.at = s.window[:got], at
		if int64(got) < n {
			return nil
		}
	}
	return s.window[at-s.at:][:n]
}

// frame returns the frame at a place and where what follows it may begin.
func (s *scanner) frame(at int64, seed uint32) (m mark, fields []byte, end int64, ok bool) {
	head := s.bytes(at, frameHead)
	if head == nil {
		return 0, nil, 0, false
	}
	m, length := mark(binary.LittleEndian.Uint32(head[8:])), int64(binary.LittleEndian.Uint32(head[4:]))
	if m != markHeader && m != markHead && m != markTail {
		return 0, nil, 0, false
	}
	all := s.bytes(at, frameHead+length)
	if all == nil || crc32.Update(seed, castagnoli, all[4:]) != binary.LittleEndian.Uint32(all) {
		return 0, nil, 0, false
	}
	return m, all[frameHead:], alignUp(at+frameHead+length, frameAlign), true
}

// header reads the header and returns where the first batch begins. blank: there is none, and never was.
func (s *scanner) header(segment uint32) (h header, end int64, blank bool, err error) {
	blank = true
	for at := int64(0); at < min(s.size, maxHeader); at += headerAlign {
		page := s.bytes(at, min(headerAlign, s.size-at))
		if at < 2*headerAlign && !isZero(page) {
			blank = false
		}
		if blank && at >= headerAlign {
			return header{}, 0, true, nil
		}
		m, fields, next, ok := s.frame(at, seed(0, uint64(segment)))
		if !ok || m != markHeader {
			continue
		}
		h, version, ok := decodeHeader(fields)
		switch {
		case !ok || version == formatVersion && h.segment != segment:
			continue
		case version != formatVersion:
			return header{}, 0, false, fmt.Errorf("%w: it has format %d, and this program reads %d: run a version that reads it until the journal is empty, or move the directory away", ErrVersion, version, formatVersion)
		}
		if at == 0 {
			next = alignUp(next, headerAlign) + next
		}
		s.salt = h.salt
		return h, alignUp(next, frameAlign), false, nil
	}
	return header{}, 0, blank, nil
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return b != nil
}

// next returns the first batch at or behind a place. What lies between is damaged, or nothing.
func (s *scanner) next(at int64) (scanned, bool) {
	for ; at+frameHead <= s.size; at = s.find(at) {
		m, fields, end, ok := s.frame(at, seed(s.salt, uint64(at)))
		if !ok || m == markHeader {
			at += frameAlign
			continue
		}
		b, ok := decodeBatch(fields, s.known)
		if !ok {
			at += frameAlign
			continue
		}
		bodies := alignUp(b.bodies, frameAlign)
		if m == markTail { // the head was damaged
			return scanned{batch: b, bodiesAt: at - bodies, end: end}, true
		}
		return scanned{batch: b, bodiesAt: end, end: end + bodies + (end - at)}, true
	}
	return scanned{}, false
}

// find returns the first place at or behind another where a frame may begin.
func (s *scanner) find(at int64) int64 {
	for at = alignUp(at, frameAlign); at+frameHead <= s.size; at += frameAlign {
		head := s.bytes(at, frameHead)
		switch {
		case s.ctx.Err() != nil:
			return s.size
		case head == nil: // unreadable
			at = alignUp(at+1, headerAlign) - frameAlign
		case (binary.LittleEndian.Uint32(head[8:])^uint32(markHead))<<8 == 0:
			return at
		default:
			at = s.skip(at)
		}
	}
	return s.size
}

// markBegins is how the marks of frames begin, on the disk.
var markBegins = binary.LittleEndian.AppendUint32(nil, uint32(markHead))[:3]

// skip returns the last place before the next one, of those that are in the window, where a mark begins as it should. Most of a
// file is blank.
func (s *scanner) skip(at int64) int64 {
	const last = 8 + 3 // a mark begins before
	rest := s.window[at-s.at:][8:]
	next := s.at + int64(len(s.window)) - last + 1
	if i := bytes.Index(rest, markBegins); i >= 0 {
		next = at + int64(i)
	}
	return max(at, alignUp(next, frameAlign)-frameAlign)
}

// whole reports whether every body of the batch is as it was written.
func (s *scanner) whole(b scanned) bool {
	at := b.bodiesAt
	for _, r := range b.records {
		if !r.stored() {
			continue
		}
		body := make([]byte, r.size)
		if readFull(s.file, body, at) != nil || checksum(body) != r.sum {
			return false
		}
		at += int64(r.size)
	}
	return true
}
