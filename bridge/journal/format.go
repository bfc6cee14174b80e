package journal

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// The format version of the files that this package writes. It reads no other.
const formatVersion = 1

const (
	frameAlign  = 8       // frames begin at multiples of it
	headerAlign = 4096    // so does the second copy of a header: no page holds both
	maxHeader   = 1 << 20 // the second copy begins before this
	frameHead   = 12      // checksum, length, mark
)

// mark is what a frame is; three bytes tell it from anything else before the checksum is looked at.
type mark uint32

const (
	markHeader mark = 'f' | 'l'<<8 | 'j'<<16 | 'H'<<24
	markHead   mark = 'f' | 'l'<<8 | 'j'<<16 | 'B'<<24
	markTail   mark = 'f' | 'l'<<8 | 'j'<<16 | 'E'<<24
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// seed is what the checksum of a frame begins with: a frame is one only at its own place, in its own segment. So bytes of
// a journal within a body, or what a file held in an earlier life, never pass for a frame.
func seed(salt, at uint64) uint32 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], salt)
	binary.LittleEndian.PutUint64(b[8:], at)
	return checksum(b[:])
}

func alignUp(n, to int64) int64 { return (n + to - 1) / to * to }

// appendFrame appends a frame of what fields appends. dst must be aligned.
func appendFrame(dst []byte, seed uint32, m mark, fields func([]byte) []byte) []byte {
	start := len(dst)
	dst = fields(append(dst, make([]byte, frameHead)...))
	frame := dst[start:]
	binary.LittleEndian.PutUint32(frame[4:], uint32(len(frame)-frameHead))
	binary.LittleEndian.PutUint32(frame[8:], uint32(m))
	binary.LittleEndian.PutUint32(frame, crc32.Update(seed, castagnoli, frame[4:]))
	return pad(dst, frameAlign)
}

func pad(b []byte, to int64) []byte {
	return append(b, make([]byte, alignUp(int64(len(b)), to)-int64(len(b)))...)
}

// Kind is what a record is.
type Kind byte

const (
	// Lane is a message of a lane: gone when settled.
	Lane Kind = 1 + iota
	// View is what has to appear elsewhere: gone by a checkpoint.
	View
	// State is a value under a key: the newest counts.
	State
	deleted    // of a state; ref is its own number
	floor      // of a lane; ref is the last number that is settled
	checkpoint // ref is the last view record that is gone
	ident      // of a group; ref is the group's first record
)

var kindNames = [...]string{"record", "message", "view record", "state", "deletion", "floor", "checkpoint", "id"}

// String names a record of the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[0]
}

func (k Kind) hasBody() bool { return k == Lane || k == View || k == State }

// lostBody is set in the byte of a kind when the body was damaged before the record was moved.
const lostBody = 0x80

// record is one entry of a batch's table, and its body. Records have consecutive numbers.
type record struct {
	kind Kind
	lost bool
	key  string // of a lane or a state, or the id
	ref  uint64 // the number that it is about: the one under which a message was accepted; 0: its own, see Kind
	body []byte // nil after reading
	size uint32 // of the body
	sum  uint32 // of the body
}

func (r record) stored() bool { return r.kind.hasBody() && !r.lost }

// batch is what one write appends: the records of all groups that wait. Two tables that say the same frame the
// bodies: head and tail. Either of them is enough to read it.
type batch struct {
	first   uint64 // number of the first record
	synced  uint64 // every number up to this one was on the disk before
	time    int64  // Unix milliseconds
	bodies  int64  // bytes
	records []record
}

func (b *batch) last() uint64 { return b.first + uint64(len(b.records)) - 1 }

func (b *batch) add(r record) {
	if r.stored() {
		r.size = uint32(len(r.body))
		b.bodies += int64(len(r.body))
	}
	b.records = append(b.records, r)
}

// number gives records that are about themselves, or about the one before, the number. A floor above the newest number
// means that one.
func (b *batch) number() {
	for i := range b.records {
		r, own := &b.records[i], b.first+uint64(i)
		switch {
		case r.ref == 0 && r.kind == ident:
			r.ref = own - 1
		case r.ref == 0 && r.kind <= deleted || r.ref > own:
			r.ref = own
		}
	}
}

// cost bounds the bytes that a record takes in a batch.
func (r record) cost() int64 { return int64(len(r.body)) + 2*int64(len(r.key)+24) }

// frame bytes and padding of a batch, besides what its records cost.
const batchCost = 2*(frameHead+50+frameAlign) + frameAlign

func (b *batch) cost() int64 {
	sum := int64(batchCost)
	for i := range b.records {
		sum += b.records[i].cost()
	}
	return sum
}

// encode appends the batch as it stands at a place of a segment, and returns where its bodies begin there.
func (b *batch) encode(dst []byte, salt uint64, at int64) (encoded []byte, bodiesAt int64) {
	start := len(dst)
	here := func() uint32 { return seed(salt, uint64(at)+uint64(len(dst)-start)) }
	dst = appendFrame(dst, here(), markHead, b.table)
	bodiesAt = at + int64(len(dst)-start)
	for i := range b.records {
		dst = append(dst, b.records[i].body...)
	}
	dst = pad(dst, frameAlign)
	return appendFrame(dst, here(), markTail, b.table), bodiesAt
}

func (b *batch) table(dst []byte) []byte {
	for _, n := range []uint64{b.first, b.first - b.synced, uint64(b.time), uint64(b.bodies), uint64(len(b.records))} {
		dst = binary.AppendUvarint(dst, n)
	}
	for i := range b.records {
		r := &b.records[i]
		kind := byte(r.kind)
		if r.lost {
			kind |= lostBody
		}
		dst = binary.AppendUvarint(append(dst, kind), uint64(len(r.key)))
		dst = append(dst, r.key...)
		dst = binary.AppendUvarint(dst, b.first+uint64(i)-r.ref)
		if r.stored() {
			dst = binary.AppendUvarint(dst, uint64(r.size))
			dst = binary.LittleEndian.AppendUint32(dst, r.sum)
		}
	}
	return dst
}

// decodeBatch reads a table. known returns the string of a key that is held already.
func decodeBatch(fields []byte, known func([]byte) string) (batch, bool) {
	c := cursor{b: fields}
	b := batch{first: c.uvarint()}
	b.synced, b.time, b.bodies = b.first-c.uvarint(), int64(c.uvarint()), int64(c.uvarint())
	count := c.uvarint()
	if c.bad || count > uint64(len(c.b)) {
		return batch{}, false
	}
	b.records = make([]record, count)
	for i := range b.records {
		r := &b.records[i]
		kind := c.byte()
		r.kind, r.lost = Kind(kind&^lostBody), kind&lostBody != 0
		r.key = known(c.bytes(c.uvarint()))
		r.ref = b.first + uint64(i) - c.uvarint()
		if r.stored() {
			r.size, r.sum = uint32(c.uvarint()), c.uint32()
		}
	}
	return b, !c.bad && len(c.b) == 0
}

// header is the beginning of a segment, twice. The newest one says which segments there are.
type header struct {
	segment uint32
	salt    uint64
	first   uint64 // number of its first record
	older   []extent
}

// extent is a segment, and the numbers in it that were on the disk when a newer one was begun. What else is in it
// counts no more.
type extent struct {
	segment     uint32
	first, last uint64
}

// encode appends both copies. The first batch begins behind them.
func (h *header) encode(dst []byte) []byte {
	for range 2 {
		dst = appendFrame(pad(dst, headerAlign), seed(0, uint64(h.segment)), markHeader, h.fields)
	}
	return dst
}

func (h *header) fields(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, formatVersion)
	dst = binary.LittleEndian.AppendUint64(dst, h.salt)
	for _, n := range []uint64{uint64(h.segment), h.first, uint64(len(h.older))} {
		dst = binary.AppendUvarint(dst, n)
	}
	for _, e := range h.older {
		dst = binary.AppendUvarint(dst, uint64(e.segment))
		dst = binary.AppendUvarint(dst, e.first)
		dst = binary.AppendUvarint(dst, e.last+1-e.first)
	}
	return dst
}

// decodeHeader reads a header, or only its version when that is another one.
func decodeHeader(fields []byte) (h header, version uint64, ok bool) {
	c := cursor{b: fields}
	if version = c.uvarint(); c.bad || version != formatVersion {
		return header{}, version, !c.bad
	}
	h = header{salt: c.uint64(), segment: uint32(c.uvarint()), first: c.uvarint()}
	for range c.uvarint() {
		e := extent{segment: uint32(c.uvarint()), first: c.uvarint()}
		e.last = e.first + c.uvarint() - 1
		if c.bad {
			return header{}, version, false
		}
		h.older = append(h.older, e)
	}
	return h, version, !c.bad
}

// cursor reads fields one after the other. After a bad one it returns zeros.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) uvarint() uint64 {
	n, size := binary.Uvarint(c.b)
	if size <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[size:]
	return n
}

func (c *cursor) bytes(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

func (c *cursor) byte() byte {
	if b := c.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint64() uint64 {
	low := uint64(c.uint32())
	return low | uint64(c.uint32())<<32
}

func (c *cursor) uint32() uint32 {
	if b := c.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// readFull reads exactly len(b) bytes, whatever the reader says about the end of the file.
func readFull(f io.ReaderAt, b []byte, at int64) error {
	n, err := f.ReadAt(b, at)
	switch {
	case n == len(b):
		return nil
	case err == nil || err == io.EOF:
		return io.ErrUnexpectedEOF
	}
	return err
}
