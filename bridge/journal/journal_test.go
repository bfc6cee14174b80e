package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/journal/simdisk"
)

// open opens a journal on a disk, until the test ends.
func open(t testing.TB, fs journal.FS, change ...func(*journal.Options)) *journal.Journal {
	t.Helper()
	o := journal.Options{FS: fs, SegmentSize: 64 << 10}
	for _, c := range change {
		c(&o)
	}
	j, err := journal.Open(context.Background(), t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func newDisk(t testing.TB) *simdisk.Disk {
	t.Helper()
	return simdisk.New(1, 4<<20)
}

func add(t testing.TB, j *journal.Journal, fill func(*journal.Group)) journal.Receipt {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var g journal.Group
	fill(&g)
	r, err := j.Append(ctx, &g)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func message(t testing.TB, j *journal.Journal, lane, body string) uint64 {
	t.Helper()
	return add(t, j, func(g *journal.Group) { g.Message(lane, []byte(body)) }).First
}

// show prints what a journal holds.
func show(j *journal.Journal) string {
	var b strings.Builder
	for _, l := range j.Lanes() {
		fmt.Fprintf(&b, "%s:", l.Lane)
		for _, m := range j.Read(l.Lane, 0, 1<<30) {
			b.WriteString(" " + showMessage(m))
		}
		b.WriteString("\n")
	}
	for _, m := range j.Views(0, 1<<30) {
		b.WriteString("view " + showMessage(m) + "\n")
	}
	for _, key := range j.Keys("") {
		value, err := j.Get(key)
		if err != nil {
			value = []byte(err.Error())
		}
		fmt.Fprintf(&b, "%s=%s\n", key, value)
	}
	return b.String()
}

func showMessage(m journal.Message) string {
	if m.Err != nil {
		return m.Err.Error()
	}
	return fmt.Sprintf("%d=%s", m.Number, m.Body)
}

func expect(t testing.TB, j *journal.Journal, want string) {
	t.Helper()
	want = strings.TrimLeft(strings.ReplaceAll(want, "\t", ""), "\n")
	if got := show(j); got != want {
		t.Errorf("the journal holds\n%swant\n%s", got, want)
	}
}

func TestJournal(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*testing.T, *journal.Journal)
		want string
	}{
		{"nothing", func(*testing.T, *journal.Journal) {}, ""},
		{"lanes", func(t *testing.T, j *journal.Journal) {
			message(t, j, "a", "x")
			message(t, j, "b", "y")
			message(t, j, "a", "")
		}, `
			a: 1=x 3=
			b: 2=y
			`},
		{"settled", func(t *testing.T, j *journal.Journal) {
			message(t, j, "a", "x")
			message(t, j, "a", "y")
			message(t, j, "b", "z")
			j.Settle("a", 1)
			j.Settle("b", 3)
			j.Settle("b", 2)
			j.Settle("c", 9)
		}, "a: 2=y\n"},
		{"settled beyond the end", func(t *testing.T, j *journal.Journal) {
			message(t, j, "a", "x")
			j.Settle("a", 99)
			message(t, j, "a", "y")
		}, "a: 2=y\n"},
		{"settled in a group, beyond its end", func(t *testing.T, j *journal.Journal) {
			message(t, j, "a", "x")
			add(t, j, func(g *journal.Group) { g.Settle("a", 99); g.Put("k", []byte("v")) })
			message(t, j, "a", "y")
		}, "a: 4=y\nk=v\n"},
		{"one decision", func(t *testing.T, j *journal.Journal) {
			message(t, j, "a", "x")
			add(t, j, func(g *journal.Group) {
				g.View([]byte("seen"))
				g.Put("k", []byte("v"))
				g.Settle("a", 1)
				g.Message("b", []byte("y"))
			})
		}, `
			b: 5=y
			view 2=seen
			k=v
			`},
		{"state", func(t *testing.T, j *journal.Journal) {
			add(t, j, func(g *journal.Group) { g.Put("k", []byte("1")); g.Put("l", nil); g.Put("m", []byte("m")) })
			add(t, j, func(g *journal.Group) { g.Put("k", []byte("2")); g.Delete("m"); g.Delete("n") })
		}, "k=2\nl=\n"},
		{"checkpoint", func(t *testing.T, j *journal.Journal) {
			add(t, j, func(g *journal.Group) { g.View([]byte("1")); g.View([]byte("2")); g.View([]byte("3")) })
			j.Checkpoint(2)
		}, "view 3=3\n"},
		{"an empty group", func(t *testing.T, j *journal.Journal) { add(t, j, func(*journal.Group) {}) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := newDisk(t)
			j := open(t, disk.Mount())
			c.do(t, j)
			expect(t, j, c.want)
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			disk.Cut(0)
			j = open(t, disk.Mount())
			expect(t, j, c.want)
			if damage := j.Damage(); len(damage) > 0 {
				t.Errorf("damage: %v", damage)
			}
		})
	}
}

func TestDuplicate(t *testing.T) {
	disk := newDisk(t)
	j := open(t, disk.Mount())
	with := func(id string) func(*journal.Group) {
		return func(g *journal.Group) { g.ID = id; g.Message("a", []byte(id)); g.Put("k", []byte(id)) }
	}
	first := add(t, j, with("one"))
	second := add(t, j, with("two"))
	again := add(t, j, with("one"))
	if first.Duplicate || second.Duplicate || !again.Duplicate || again.First != first.First {
		t.Errorf("%+v %+v %+v", first, second, again)
	}
	_ = j.Close()
	j = open(t, disk.Mount())
	if again := add(t, j, with("two")); !again.Duplicate || again.First != second.First {
		t.Errorf("after a restart: %+v, first %+v", again, second)
	}
	expect(t, j, "a: 1=one 4=two\nk=two\n")
}

func TestRefused(t *testing.T) {
	disk := newDisk(t)
	j := open(t, disk.Mount())
	var g journal.Group
	g.Message("a", make([]byte, 40<<10))
	if _, err := j.Append(t.Context(), &g); !errors.Is(err, journal.ErrTooLarge) {
		t.Error(err)
	}
	if _, err := journal.Open(context.Background(), "", journal.Options{FS: disk.Mount()}); !errors.Is(err, journal.ErrLocked) {
		t.Error(err)
	}
	_ = j.Close()
	if _, err := j.Append(t.Context(), new(journal.Group)); !errors.Is(err, journal.ErrClosed) {
		t.Error(err)
	}
	if _, err := j.Get("k"); !errors.Is(err, journal.ErrNotFound) {
		t.Error(err)
	}
}

func TestReadInPieces(t *testing.T) {
	j := open(t, newDisk(t).Mount())
	for i := range 100 {
		message(t, j, fmt.Sprint("lane ", i%3), strings.Repeat("x", i))
	}
	var got []byte
	for after := uint64(0); ; {
		messages := j.Read("lane 1", after, 200)
		if len(messages) == 0 {
			break
		}
		for _, m := range messages {
			got = append(got, m.Body...)
			after = m.Number
		}
	}
	want := 0
	for i := 1; i < 100; i += 3 {
		want += i
	}
	if len(got) != want || len(bytes.Trim(got, "x")) > 0 {
		t.Errorf("%d bytes, want %d", len(got), want)
	}
}

var bg = context.Background()

// TestFlush: what was settled before stays settled after a kill, with nothing else written.
func TestFlush(t *testing.T) {
	disk := newDisk(t)
	j := open(t, disk.Mount())
	for range 3 {
		message(t, j, "a", "x")
		message(t, j, "b", "x")
	}
	if left := j.Settle("a", 3); left.Messages != 1 || left.First != 5 || left.Bytes != 1 {
		t.Errorf("left %+v", left)
	}
	j.Settle("b", 4)
	if err := j.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := j.Last()
	disk.Cut(0)
	j = open(t, disk.Mount())
	expect(t, j, "a: 5=x\nb: 6=x\n")
	if j.Last() < last {
		t.Errorf("it ends at %d, and ended at %d", j.Last(), last)
	}
}

// An end of Open's context ends the reading of a file that is almost all hole, and nothing is changed by that.
func TestOpenEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, err := journal.Open(t.Context(), dir, journal.Options{SegmentSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	message(t, j, "lane", "one")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	first := filepath.Join(dir, "0000000001.seg")
	if err := os.Truncate(first, 1<<32-1<<20); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if j, err := journal.Open(ctx, dir, journal.Options{SegmentSize: 1 << 20}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
		if err == nil {
			_ = j.Close()
		}
	}
	if err := os.Truncate(first, 1<<20); err != nil {
		t.Fatal(err)
	}
	j, err = journal.Open(t.Context(), dir, journal.Options{SegmentSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if d := j.Damage(); len(d) > 0 || j.Last() != 1 {
		t.Errorf("up to %d, damage %v", j.Last(), d)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// Files that no journal makes are not opened by the thousand.
func TestBlankFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for n := range 300 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%010d.seg", n+1)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := journal.Open(t.Context(), dir, journal.Options{}); err == nil || !strings.Contains(err.Error(), "blank") {
		t.Errorf("%v", err)
	}
}
