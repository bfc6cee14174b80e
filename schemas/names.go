package schemas

import (
	"bytes"
	"hash/maphash"
)

// fewNames is up to how many names an object's names are compared one by one.
const fewNames = 16

// remember notes the innermost object's last name and reports whether the object did not have it yet.
//
// A sketch of 64 bits, one for each name's length and a few of its bytes, says that most names are
// new without a look at the others. Small objects compare a name whose bit is taken with those before
// it; large ones keep their names in a hash table, so that none costs quadratic time.
func (s *scanner) remember(f *frame) bool {
	name := s.textAt(f.name)
	f.names++
	if f.names > fewNames {
		return s.rememberMany(f, name)
	}
	bit := uint64(1) << sketch(name)
	if f.sketch&bit == 0 {
		f.sketch |= bit
		return true
	}
	for i := f.token + 1; i < f.name; i = s.tokens[i+1].next {
		if bytes.Equal(s.textAt(i), name) {
			return false
		}
	}
	return true
}

func (s *scanner) rememberMany(f *frame, name []byte) bool {
	t := &s.names
	if f.names == fewNames+1 {
		for i := f.token + 1; i < f.name; i = s.tokens[i+1].next {
			t.add(&s.tape, entry{t.hash(f.token, s.textAt(i)), f.token, i})
		}
	}
	return t.add(&s.tape, entry{t.hash(f.token, name), f.token, f.name})
}

// sketch is a number below 64 that differs for most names of an object.
func sketch(name []byte) uint8 {
	n := len(name)
	if n == 0 {
		return 0
	}
	return (uint8(n)*7 + name[0]*5 + name[n/2]*3 + name[n-1]) & 63
}

// nameTable is a hash table of the names of all large objects in one payload.
type nameTable struct {
	seed    maphash.Seed // fresh each time: nobody can prepare colliding names
	entries []entry
	slots   []uint32 // open addressing; 1 + index of the entry, 0 is free
	empty   bool     // nothing of this payload is in it yet
}

type entry struct {
	hash   uint64
	object uint32 // token of the object
	name   uint32 // token of the name
}

const firstSlots = 128

func (t *nameTable) hash(object uint32, name []byte) uint64 {
	if t.empty {
		t.seed, t.entries, t.empty = maphash.MakeSeed(), t.entries[:0], false
		t.resize(firstSlots)
	}
	return maphash.Bytes(t.seed, name) ^ uint64(object)*0x9E3779B97F4A7C15
}

// add adds an entry and reports whether there was none with its object and name.
func (t *nameTable) add(on *tape, e entry) bool {
	if 2*len(t.entries) >= len(t.slots) {
		t.resize(4 * len(t.slots))
		for n := range t.entries {
			t.slots[t.free(t.entries[n].hash)] = uint32(n + 1)
		}
	}
	mask := uint64(len(t.slots) - 1)
	i := e.hash & mask
	for ; t.slots[i] != 0; i = (i + 1) & mask {
		other := &t.entries[t.slots[i]-1]
		if other.hash == e.hash && other.object == e.object && bytes.Equal(on.textAt(other.name), on.textAt(e.name)) {
			return false
		}
	}
	t.entries = append(t.entries, e)
	t.slots[i] = uint32(len(t.entries))
	return true
}

// free is the first free slot for a hash.
func (t *nameTable) free(hash uint64) uint64 {
	mask := uint64(len(t.slots) - 1)
	i := hash & mask
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	return i
}

// resize makes the table n empty slots.
func (t *nameTable) resize(n int) {
	if cap(t.slots) < n {
		t.slots = make([]uint32, n)
		return
	}
	t.slots = t.slots[:n]
	clear(t.slots)
}
