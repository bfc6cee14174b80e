package soak

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidwall/gjson"

	"fleetbridge/fleetsim"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// damage is what happens to the journal's file while the bridge is down.
type damage struct {
	name   string
	killed bool // the bridge was, before it; else it was stopped
	whole  bool // nothing may be lost: what is missing can be told from the rest
	do     func(file string) error
}

const queuedBefore = 400

var damages = []damage{
	{"torn end", true, false, func(f string) error { return cutOff(f, 100) }},
	{"torn end after a stop", false, false, func(f string) error { return cutOff(f, 100) }},
	{"flipped bytes", true, false, func(f string) error { return flip(f, 0.5) }},
	{"flipped bytes after a stop", false, false, func(f string) error { return flip(f, 0.7) }},
	{"empty file", true, false, func(f string) error { return os.Truncate(f, 0) }},
	{"empty file after a stop", false, false, func(f string) error { return os.Truncate(f, 0) }},
	{"no file", true, false, os.Remove},
	{"no file after a stop", false, false, os.Remove},
	{"no journal", true, false, func(f string) error { return os.RemoveAll(filepath.Dir(f)) }},
	{"no journal after a stop", false, false, func(f string) error { return os.RemoveAll(filepath.Dir(f)) }},
	{"flipped header", true, true, func(f string) error { return flip(f, 0) }},
	{"flipped header after a stop", false, true, func(f string) error { return flip(f, 0) }},
	{"zeros in the middle", true, false, func(f string) error { return zero(f, 0.6) }},
	{"zeros in the middle after a stop", false, false, func(f string) error { return zero(f, 0.3) }},
}

// newestFile is the newest file of a journal that something was written to.
func newestFile(dir string) (name string) {
	files, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
	slices.Sort(files)
	for _, f := range files {
		if _, n, err := written(f); err == nil && n > 0 {
			name = f
		}
	}
	return name
}

// written is how much was written to a file of a journal: behind it there are zeros.
func written(path string) (content []byte, n int, err error) {
	content, err = os.ReadFile(path)
	return content, len(bytes.TrimRight(content, "\x00")), err
}

// cutOff cuts so many bytes off what was written.
func cutOff(path string, n int) error {
	_, end, err := written(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, int64(end-n))
}

// flip turns 16 bytes over, at a part of what was written.
func flip(path string, at float64) error {
	return change(path, at, 16, func(b byte) byte { return ^b })
}

// zero makes a page of zeros, at a part of what was written.
func zero(path string, at float64) error {
	return change(path, at, 4096, func(byte) byte { return 0 })
}

func change(path string, at float64, n int, f func(byte) byte) error {
	content, end, err := written(path)
	if err != nil {
		return err
	}
	start := int(float64(end) * at)
	for i := start; i < min(start+n, end); i++ {
		content[i] = f(content[i])
	}
	return os.WriteFile(path, content, 0o600)
}

// damageStore damages the journal in one way after the other, each in a store of its own.
// Either everything is still there, or the bridge says at its start that something is not.
func damageStore(w *World) {
	chosen := damages
	if !w.Long { // three of them
		first := int(w.Seed) * 3
		chosen = []damage{damages[first%len(damages)], damages[(first+5)%len(damages)], damages[(first+10)%len(damages)]}
	}
	for _, d := range chosen {
		newProcSite(w, procOptions{patience: 30 * time.Second, silent: true, setup: processSetup{things: []string{"pump-07"}}}).damaged(d)
	}
}

func (s *procSite) damaged(d damage) {
	s.Helper()
	books := s.books
	s.books = fleetsim.NewLedger() // what the damage destroys is no loss of the bridge's, if it says so
	s.bridge.start(s.ctx)
	s.bridge.ready(s.ctx)
	s.link.Cut()
	js := s.queue(queuedBefore)
	s.noted(js, queuedBefore)
	if d.killed {
		s.bridge.kill()
	} else {
		s.bridge.stop()
	}
	if err := d.do(newestFile(filepath.Join(s.bridge.store, "FLEETS_JOURNAL"))); err != nil {
		s.Fatal(err)
	}
	s.Fault()
	mark := s.bridge.mark()
	s.bridge.start(s.ctx)
	s.queue(1)
	s.link.Restore()
	s.Recovered(s.bridge.ready(s.ctx))
	s.arrivedUp()
	s.judge(d, mark, books)
	s.bridge.kill()
}

// queue publishes so many events and returns when they are stored.
func (s *procSite) queue(n int) jetstream.JetStream {
	s.Helper()
	js, err := jetstream.New(s.connect("program"))
	if err != nil {
		s.Fatal(err)
	}
	name := upLane(s.things[0], mapping.Events)
	for range n {
		number := s.books.Next(name)
		if _, err := js.PublishMsg(s.ctx, numbered(s.things[0], mapping.Events, number)); err != nil {
			s.Fatal(err)
		}
		s.accepted(name, number)
	}
	return js
}

// noted waits until the bridge has written down how much it holds, which it does every few seconds.
func (s *procSite) noted(js jetstream.JetStream, n uint64) {
	s.Helper()
	kv, err := js.KeyValue(s.ctx, "FLEETS_MARKS")
	if err != nil {
		s.Fatal(err)
	}
	watch, err := kv.Watch(s.ctx, ">")
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = watch.Stop() }()
	for {
		select {
		case e := <-watch.Updates():
			if e != nil && gjson.GetBytes(e.Value(), "=journal.last").Uint() >= n {
				return
			}
		case <-s.ctx.Done():
			s.Fatal("the bridge doesn't note how much it holds")
		}
	}
}

// judge compares what has arrived with what the bridge said.
func (s *procSite) judge(d damage, mark int, books *fleetsim.Ledger) {
	s.Helper()
	name := upLane(s.things[0], mapping.Events)
	said := s.said(mark)
	for len(said) == 0 && !s.allSeen(name) && flow.Sleep(s.ctx, 50*time.Millisecond) == nil { // what can't be read is found a little later
		said = s.said(mark)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := 0
	for n := uint64(1); n <= queuedBefore+1; n++ {
		here := s.seen[name][n]
		if !here {
			lost++
		}
		if here || len(said) == 0 {
			number := books.Next(name)
			books.Accepted(name, number)
			if here {
				books.Arrived(name, number)
			}
		}
	}
	s.Logf("%s: %d of %d lost, said: %s", d.name, lost, queuedBefore+1, strings.Join(said, "\n"))
	if d.whole && lost > 0 {
		s.Errorf("%s: %d lost, and could have been kept", d.name, lost)
	}
	unread, records := 0, 0 // among the records may be some that are no messages
	for _, text := range said {
		if strings.Contains(text, "can't be read any more") {
			unread += int(gjson.Get(text, "messages").Int())
		} else {
			records += int(gjson.Get(text, "records_lost").Int())
		}
	}
	if len(said) > 0 && (lost < unread || lost > unread+records) {
		s.Errorf("%s: %d lost, and %d messages said to be unreadable, and %d records", d.name, lost, unread, records)
	}
	if lost > 0 && len(said) == 0 {
		s.Errorf("%s: %d lost, and not a word of it", d.name, lost)
	}
}

// said is what the bridge has said of the damaged journal.
func (s *procSite) said(mark int) (said []string) {
	for _, l := range s.bridge.log(mark, "WARN", "ERROR") {
		if strings.Contains(l.Text, "journal") {
			said = append(said, l.Text)
		}
	}
	return said
}

func (s *procSite) allSeen(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := uint64(1); n <= queuedBefore+1; n++ {
		if !s.seen[name][n] {
			return false
		}
	}
	return true
}
