package local

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/mapping"
)

// damagedRig is started anew on a journal that holds so many messages, by turns of these Things; some are damaged.
func damagedRig(t *testing.T, things []mapping.Thing, n int, bad ...int) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), journal: newJournal(t), subjects: subjects(t), segment: 64 << 10} // little to look through
	r.start(embedded.Config{}, StoreConfig{Things: things})
	for i := range n {
		a := mapping.Address{Thing: things[i%len(things)], Channel: mapping.Event, ID: "x"}
		if _, err := r.spool.Enqueue(testContext(t), a, numberedPayload(i+1), bridge.Trace{}); err != nil {
			t.Fatal(err)
		}
	}
	r.stop()
	for _, number := range bad {
		r.flip(t, numberedPayload(number))
	}
	r.journal.forgive("can't be read any more")
	r.start(embedded.Config{}, StoreConfig{Things: things, Window: 2})
	return r
}

func numberedPayload(n int) []byte { return fmt.Appendf(nil, "message %d.%0100d", n, 0) }

// segments are the files of the journal.
func (r *rig) segments(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(r.dir, "FLEETS_JOURNAL", "*.seg"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	return files
}

// flip turns a byte over in the journal where a text is.
func (r *rig) flip(t *testing.T, text []byte) {
	t.Helper()
	for _, name := range r.segments(t) {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(content, text)
		if at < 0 {
			continue
		}
		content[at+len(text)/2] ^= 0x01
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("%s is not in the journal", text)
}

var unreadable = regexp.MustCompile(`^ERROR stored messages can't be read any more.* thing=(\S+) queue=events .* messages=(\d+) `)

// missed is of how many messages it was said that they can't be read.
func (j *logbook) missed(thing string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, line := range j.lines {
		if m := unreadable.FindStringSubmatch(line); m != nil && m[1] == thing {
			one, _ := strconv.Atoi(m[2])
			n += one
		}
	}
	return n
}

// TestDamagedMessages: flipped bits cost the messages that they hit. Everything else comes, also what is stored meanwhile,
// the others are counted once, and nobody waits for them any more, also after a restart.
func TestDamagedMessages(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string][]int{
		"none": {}, "the first": {1}, "between": {2, 5, 6}, "the last": {9, 10}, "ends": {1, 2, 10}, "all": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
	} {
		t.Run(name, func(t *testing.T) {
			r := damagedRig(t, []mapping.Thing{"pump"}, 10, bad...)
			q, stop := r.run("pump", mapping.Events)
			for n := 1; n <= 10; n++ {
				if slices.Contains(bad, n) {
					continue
				}
				d := next(t, q)
				if !bytes.Equal(d.Payload, numberedPayload(n)) {
					t.Fatalf("%s, want %d", d.Payload, n)
				}
				d.Settle()
			}
			r.publish(r.program(), "fleets.up.pump.events.x", "later")
			expect(t, q, "later")
			eventually(t, "nothing is left", func() bool { return queuedOf(t, r, "pump") == 0 })
			eventually(t, "all that is lost is said", func() bool { return r.journal.missed("pump") == len(bad) })
			if err := q.Flush(testContext(t)); err != nil {
				t.Fatal(err)
			}
			stop()
			r.stop()
			r.start(embedded.Config{}, StoreConfig{})
			if n := queuedOf(t, r, "pump"); n != 0 || r.journal.missed("pump") != len(bad) {
				t.Errorf("after a restart %d are queued", n)
			}
		})
	}
}

// TestDamageOfOthers: a Thing's damaged messages are its own loss.
func TestDamageOfOthers(t *testing.T) {
	t.Parallel()
	r := damagedRig(t, []mapping.Thing{"pump", "lamp"}, 10, 3, 6)
	take := func(thing mapping.Thing, want ...int) {
		t.Helper()
		q, _ := r.run(thing, mapping.Events)
		for _, n := range want {
			d := next(t, q)
			if !bytes.Equal(d.Payload, numberedPayload(n)) {
				t.Errorf("%s, want %d", d.Payload, n)
			}
			d.Settle()
		}
		eventually(t, "nothing is left", func() bool { return queuedOf(t, r, thing) == 0 })
	}
	take("pump", 1, 5, 7, 9)
	take("lamp", 2, 4, 8, 10)
	for _, thing := range []string{"pump", "lamp"} {
		eventually(t, "what is lost is said", func() bool { return r.journal.missed(thing) == 1 })
	}
}

// TestMissingJournal: a store must not start silently with less than it had.
func TestMissingJournal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(t *testing.T, r *rig)
		want   string
	}{
		"untouched": {func(*testing.T, *rig) {}, ""},
		"emptied": {func(t *testing.T, r *rig) {
			for _, f := range r.segments(t) {
				truncate(t, f, 0)
			}
		}, "ERROR the end of the journal is missing"},
		"cut": {func(t *testing.T, r *rig) { truncate(t, r.segments(t)[0], 5000) }, "ERROR the end of the journal is missing"},
		"removed": {func(t *testing.T, r *rig) {
			if err := os.RemoveAll(filepath.Join(r.dir, "FLEETS_JOURNAL")); err != nil {
				t.Fatal(err)
			}
		}, "ERROR the end of the journal is missing"},
	} {
		for _, clean := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, clean %v", name, clean), func(t *testing.T) {
				r := newRig(t, "pump")
				for i := range 10 {
					if _, err := r.spool.Enqueue(testContext(t), mapping.Address{Thing: "pump", Channel: mapping.Event, ID: "x"}, numberedPayload(i), bridge.Trace{}); err != nil {
						t.Fatal(err)
					}
				}
				if err := r.store.Note(testContext(t), clean); err != nil {
					t.Fatal(err)
				}
				r.stop()
				c.damage(t, r)
				r.journal.forgive("of the journal is", "from the journal", "end of the journal was torn")
				r.start(embedded.Config{}, StoreConfig{})
				if c.want != "" {
					r.journal.expect(t, c.want, "lost=")
				} else if n := r.journal.count("ERROR"); n > 0 {
					t.Errorf("%d errors about a whole store", n)
				}
			})
		}
	}
}
