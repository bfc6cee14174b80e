package journal_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/journal/simdisk"
	"fleetbridge/internal/race"
)

// sample is the content of a journal that was closed: file by file, and what it holds.
var sample = sync.OnceValue(func() (s struct {
	files map[string][]byte
	names []string
	lanes map[string][]item
	state map[string]string
	total int
}) {
	disk := simdisk.New(1, 16*segmentSize)
	j, err := journal.Open(context.Background(), "journal", journal.Options{FS: disk.Mount(), SegmentSize: segmentSize})
	if err != nil {
		panic(err)
	}
	s.lanes, s.state = map[string][]item{}, map[string]string{}
	for i := range 60 {
		var g journal.Group
		lane, value := string(rune('a'+i%3)), body(i, 0, 37*i)
		g.Message(lane, []byte(value))
		g.Put(lane, []byte(value))
		g.View([]byte(value))
		r, err := j.Append(bg, &g)
		if err != nil {
			panic(err)
		}
		s.lanes[lane] = append(s.lanes[lane], item{number: r.First, body: value})
		s.lanes[viewLane] = append(s.lanes[viewLane], item{number: r.First + 2, body: value})
		s.state[lane] = value
	}
	if err := j.Close(); err != nil {
		panic(err)
	}
	disk.Cut(0)
	s.files, s.total = map[string][]byte{}, 60*3
	fs := disk.Mount()
	s.names, _ = fs.List("")
	for _, name := range s.names {
		f, _ := fs.Open(name)
		size, _ := f.Size()
		s.files[name] = make([]byte, size)
		if _, err := f.ReadAt(s.files[name], 0); err != nil && err != io.EOF {
			panic(err)
		}
	}
	return s
})

// reopen opens the sample after a change of its files and holds what is there against what was: nothing wrong, and
// what is gone is said, number by number.
func reopen(t *testing.T, files map[string][]byte, single bool) {
	s := sample()
	disk := simdisk.New(1, 32*segmentSize)
	disk.Load(files)
	j, err := journal.Open(context.Background(), "journal", journal.Options{FS: disk.Mount(), SegmentSize: segmentSize})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	gone, unknown := map[uint64]bool{}, false
	for _, d := range j.Damage() {
		unknown = unknown || d.First == 0
		for n := d.First; n <= d.Last && n > 0; n++ {
			gone[n] = true
		}
	}
	wrong := 0
	for lane, want := range s.lanes {
		got := readLane(j, lane)
		for _, it := range got {
			i := slices.IndexFunc(want, func(w item) bool { return w.number == it.number })
			if i < 0 || !it.lost && it.body != want[i].body {
				t.Fatalf("lane %s: %v was never written", lane, it)
			}
		}
		for _, w := range want {
			i := slices.IndexFunc(got, func(g item) bool { return g.number == w.number })
			if (i < 0) != gone[w.number] && !unknown {
				t.Fatalf("lane %s: %v is there: %v, said to be gone: %v", lane, w, i >= 0, gone[w.number])
			}
			if i < 0 || got[i].lost {
				wrong++
			}
		}
	}
	for key, want := range s.state {
		got := getState(j, key)
		if !got.lost && got.body != want && len(gone) == 0 && !unknown {
			t.Fatalf("state %s: %v, want %.12q…", key, got, want)
		}
		if got.lost {
			wrong++
		}
	}
	if single && (wrong > 1 || len(gone) > 0) {
		t.Fatalf("one bit has cost %d records, and %d numbers: %v", wrong, len(gone), j.Damage())
	}
}

// FuzzFlip flips one bit anywhere: it costs one record at most.
func FuzzFlip(f *testing.F) {
	for _, at := range []uint32{0, 5, 9, 4096, 4105, 4200, 30000, 65536, 65536*2 + 1} {
		f.Add(at, uint8(at))
	}
	f.Fuzz(func(t *testing.T, at uint32, bit uint8) {
		files, name, in := copied(at)
		files[name][in] ^= 1 << (bit % 8)
		reopen(t, files, true)
	})
}

// FuzzDamage overwrites a stretch with anything, and cuts the file behind another place.
func FuzzDamage(f *testing.F) {
	f.Add(uint32(4100), []byte("anything"), uint32(0))
	f.Add(uint32(9000), make([]byte, 3000), uint32(0))
	f.Add(uint32(0), make([]byte, 100), uint32(20000))
	f.Add(uint32(0), []byte{}, uint32(4097))
	f.Fuzz(func(t *testing.T, at uint32, with []byte, cut uint32) {
		files, name, in := copied(at)
		copy(files[name][in:], with)
		if cut > 0 {
			_, name, in := copied(cut)
			files[name] = files[name][:in]
		}
		reopen(t, files, false)
	})
}

// copied returns a copy of the sample's files, and a place in one that was written.
func copied(at uint32) (files map[string][]byte, name string, in int) {
	s := sample()
	files = map[string][]byte{}
	var written []string
	for _, name := range s.names {
		files[name] = slices.Clone(s.files[name])
		if strings.Trim(string(files[name][:16]), "\x00") != "" {
			written = append(written, name)
		}
	}
	n := int(at) % (len(written) * segmentSize)
	return files, written[n/segmentSize], n % segmentSize
}

// TestEveryFlip flips a bit of every byte of the sample's headers and tables, and of some of the bodies.
func TestEveryFlip(t *testing.T) {
	for at := 0; at < 3*segmentSize; at += 997 * race.Step() {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			files, name, in := copied(uint32(at))
			files[name][in] ^= 1 << (at % 8)
			reopen(t, files, true)
		})
	}
}
