package soak

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidwall/gjson"

	"fleetbridge/bridge/fleetstest"
	"fleetbridge/mapping"
)

// damage is what happens to a stream's files while the bridge is down. dir is the stream's.
type damage struct {
	name   string
	killed bool // the bridge was, before it; else it was stopped
	whole  bool // nothing may be lost: what is missing can be told from the rest
	do     func(dir string) error
}

const queuedBefore = 400

var damages = []damage{
	{"torn last block", true, false, func(dir string) error { return cutOff(lastBlock(dir), 100) }},
	{"torn last block after a stop", false, false, func(dir string) error { return cutOff(lastBlock(dir), 100) }},
	{"flipped bytes", true, false, func(dir string) error { return flip(lastBlock(dir), 0.5) }},
	{"flipped payload after a stop", false, false, func(dir string) error { return flip(lastBlock(dir), 0.5) }},
	{"empty block", true, false, func(dir string) error { return os.Truncate(lastBlock(dir), 0) }},
	{"empty block after a stop", false, false, func(dir string) error { return os.Truncate(lastBlock(dir), 0) }},
	{"no block", true, false, func(dir string) error { return os.Remove(lastBlock(dir)) }},
	{"no block after a stop", false, false, func(dir string) error { return os.Remove(lastBlock(dir)) }},
	{"no index", false, true, func(dir string) error { return os.Remove(filepath.Join(dir, "msgs", "index.db")) }},
	{"empty index", false, true, func(dir string) error { return os.Truncate(filepath.Join(dir, "msgs", "index.db"), 0) }},
	{"flipped index", false, true, func(dir string) error { return flip(filepath.Join(dir, "msgs", "index.db"), 0.5) }},
	{"no metadata", false, true, func(dir string) error { return os.Remove(filepath.Join(dir, "meta.inf")) }},
	{"empty metadata", false, true, func(dir string) error { return os.Truncate(filepath.Join(dir, "meta.inf"), 0) }},
	{"no checksum", false, true, func(dir string) error { return os.Remove(filepath.Join(dir, "meta.sum")) }},
}

// lastBlock is the newest file of messages.
func lastBlock(dir string) string {
	files, _ := filepath.Glob(filepath.Join(dir, "msgs", "*.blk"))
	if len(files) == 0 {
		return filepath.Join(dir, "msgs", "none")
	}
	return slices.MaxFunc(files, func(a, b string) int { return len(a) - len(b) })
}

func cutOff(path string, n int64) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, info.Size()-n)
}

// flip turns 16 bytes over, at a part of the file.
func flip(path string, at float64) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	start := int(float64(len(content)) * at)
	for i := start; i < min(start+16, len(content)); i++ {
		content[i] = ^content[i]
	}
	return os.WriteFile(path, content, 0o600)
}

// damageStore damages the queue of telemetry in one way after the other, each in a store of its own.
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
	s.books = fleetstest.NewLedger() // what the damage destroys is no loss of the bridge's, if it says so
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
	if err := d.do(filepath.Join(s.bridge.store, "jetstream", "$G", "streams", "FLEETS_UP_TELEMETRY")); err != nil {
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
	name := telemetryLane(s.things[0])
	for range n {
		number := s.books.Next(name)
		if _, err := js.PublishMsg(s.ctx, numbered(s.things[0], mapping.Telemetry, number)); err != nil {
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
			if e != nil && gjson.GetBytes(e.Value(), "FLEETS_UP_TELEMETRY.last").Uint() >= n {
				return
			}
		case <-s.ctx.Done():
			s.Fatal("the bridge doesn't note how much it holds")
		}
	}
}

// judge compares what has arrived with what the bridge said.
func (s *procSite) judge(d damage, mark int, books *fleetstest.Ledger) {
	s.Helper()
	name := telemetryLane(s.things[0])
	said := s.said(mark)
	for len(said) == 0 && !s.allSeen(name) && rest(s.ctx, 50*time.Millisecond) == nil { // what can't be read is found a little later
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
	unread, counted := 0, false
	for _, text := range said {
		if strings.Contains(text, "can't be read any more") {
			unread, counted = unread+int(gjson.Get(text, "messages").Int()), true
		}
	}
	if counted && unread != lost {
		s.Errorf("%s: %d lost, and %d said to be unreadable", d.name, lost, unread)
	}
	if lost > 0 && len(said) == 0 {
		s.Errorf("%s: %d lost, and not a word of it", d.name, lost)
	}
}

// said is what the bridge has said of the damaged stream.
func (s *procSite) said(mark int) (said []string) {
	for _, l := range s.bridge.log(mark, "WARN", "ERROR") {
		if strings.Contains(l.Text, `"stream":"FLEETS_UP_TELEMETRY"`) {
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
