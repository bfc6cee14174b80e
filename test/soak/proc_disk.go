//go:build soakroot

package soak

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/mapping"
)

// mountTmpfs mounts a small disk until the test ends.
func mountTmpfs(w *World, options string) string {
	w.Helper()
	dir := filepath.Join(processDir(w.T), "small")
	if err := os.Mkdir(dir, 0o700); err != nil {
		w.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		w.Fatalf("mount tmpfs: %v; it needs root", err)
	}
	w.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			w.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// running tells whether the process is there.
func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// errorTime is how long a publisher may wait for the word that its message is not stored.
const errorTime = time.Second

// fill publishes until a publish is refused, or not answered, and returns how many went before and how
// long the last one took.
func (s *procSite) fill(js jetstream.JetStream, most int) (took time.Duration, refused error) {
	s.Helper()
	name := upLane(s.things[0], mapping.Events)
	for range most {
		n := s.Ledger.Next(name)
		m := numbered(s.things[0], mapping.Events, n)
		m.Header = nats.Header{"Padding": {strings.Repeat("x", 4000)}}
		began := time.Now()
		ctx, cancel := context.WithTimeout(s.ctx, 2*errorTime)
		_, err := js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
		cancel()
		if err != nil {
			return time.Since(began), err
		}
		s.accepted(name, n)
	}
	return 0, nil
}

// fullDisk has the queue fill the disk, then something else fill it at once; each time publishers get
// errors in time, and the queue takes more when there is room, without a restart.
func fullDisk(w *World) {
	dir := mountTmpfs(w, "size=24m")
	s := newProcSite(w, procOptions{patience: 4 * time.Minute, silent: true, setup: processSetup{things: []string{"pump-07"}, store: filepath.Join(dir, "store")}})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 12<<20), 0o600); err != nil {
		w.Fatal(err)
	}
	s.bridge.start(s.ctx)
	s.bridge.ready(s.ctx)
	s.link.Cut()
	js, err := jetstream.New(s.connect("program"))
	if err != nil {
		w.Fatal(err)
	}
	s.refusedInTime(js, "the queue has filled the disk")
	if err := os.Remove(ballast); err != nil {
		w.Fatal(err)
	}
	s.takesMore(js)
	blocked := exec.Command("dd", "if=/dev/zero", "of="+ballast, "bs=64k") // until there is no room
	_ = blocked.Run()
	s.refusedInTime(js, "something else has filled the disk")
	if err := os.Remove(ballast); err != nil {
		w.Fatal(err)
	}
	s.takesMore(js)
	s.link.Restore()
	s.arrivedUp()
	if !s.bridge.running() {
		w.Errorf("the bridge ended:\n%s", s.bridge.tail())
	}
}

// refusedInTime publishes until there is an error, and judges it.
func (s *procSite) refusedInTime(js jetstream.JetStream, what string) {
	s.Helper()
	s.Fault()
	for i := range 3 {
		took, err := s.fill(js, 20000)
		if err == nil {
			s.Fatalf("%s: every publish is accepted", what)
		}
		s.Logf("%s: %v after %v", what, err, took.Round(time.Millisecond))
		if i > 0 && took > errorTime { // the server doesn't answer the publish under which the disk breaks
			s.Errorf("%s: publish %d after it waited %v", what, i+1, took)
		}
	}
}

// takesMore waits until a publish is accepted.
func (s *procSite) takesMore(js jetstream.JetStream) {
	s.Helper()
	began := time.Now()
	for {
		if _, err := s.fill(js, 1); err == nil {
			break
		}
		s.nap(20 * time.Millisecond)
	}
	s.Recovered(time.Since(began))
}

// readOnlyDisk has the disk refuse every change while the bridge works, as a file system does after an
// error; and starts the bridge on one.
func readOnlyDisk(w *World) {
	for _, errno := range []syscall.Errno{syscall.EROFS, syscall.EIO}[:w.Pick(1, 2)] {
		disk := mountPowerDisk(w)
		s := newProcSite(w, procOptions{patience: 80 * time.Second, silent: true, setup: processSetup{things: []string{"pump-07"}, store: filepath.Join(disk.path, "store")}})
		s.bridge.start(s.ctx)
		s.bridge.ready(s.ctx)
		js, err := jetstream.New(s.connect("program"))
		if err != nil {
			w.Fatal(err)
		}
		if _, err := s.fill(js, 20); err != nil {
			w.Fatal(err)
		}
		disk.refuse(errno)
		s.refusedInTime(js, errno.Error())
		s.bridge.kill()
		s.refusesToStart()
		disk.refuse(0)
		s.bridge.start(s.ctx)
		s.takesMore(js)
		disk.refuse(errno)
		s.refusedInTime(js, errno.Error())
		disk.refuse(0)
		s.takesMore(js)
		s.arrivedUp()
		if !s.bridge.running() {
			w.Errorf("the bridge ended:\n%s", s.bridge.tail())
		}
	}
}

// refusesToStart launches the bridge on a store that it can't write: it ends with one line that names
// the directory.
func (s *procSite) refusesToStart() {
	s.Helper()
	mark := s.bridge.mark()
	s.bridge.launch()
	select {
	case <-s.bridge.ended:
	case <-s.bridge.up:
		s.Errorf("the bridge starts on a disk that refuses everything")
		s.bridge.kill()
		return
	case <-s.ctx.Done():
		s.Fatalf("the bridge neither starts nor ends:\n%s", s.bridge.tail())
	}
	last := ""
	for _, l := range s.bridge.log(mark) {
		last = l.Text
	}
	s.Logf("%s", last)
	if code := s.bridge.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(last, s.bridge.store) {
		s.Errorf("exit code %d, last line %s", code, last)
	}
}
