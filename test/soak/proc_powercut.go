//go:build soakroot

package soak

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"fleetbridge/fleetsim"
)

// powerDisk is a file system that forgets what was not synced: the program in powercut, mounted.
type powerDisk struct {
	w    *World
	path string
	in   io.WriteCloser
	out  *bufio.Scanner
}

var powercutBuilt = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "fleetbridge-soak-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "powercut")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Dir = "powercut"
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building powercut: %w: %s", err, out)
	}
	return path, nil
})

// mountPowerDisk mounts one until the test ends.
func mountPowerDisk(w *World, flags ...string) *powerDisk {
	w.Helper()
	binary, err := powercutBuilt()
	if err != nil {
		w.Fatal(err)
	}
	d := &powerDisk{w: w, path: filepath.Join(processDir(w.T), "disk")}
	if err := os.Mkdir(d.path, 0o700); err != nil {
		w.Fatal(err)
	}
	cmd := exec.Command(binary, append(flags, d.path)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.Fatal(err)
	}
	if d.in, err = cmd.StdinPipe(); err != nil {
		w.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	d.out = bufio.NewScanner(out)
	w.Cleanup(func() {
		_ = d.in.Close()
		if err := cmd.Wait(); err != nil {
			w.Errorf("powercut: %v", err)
		}
	})
	d.expect("mounted")
	return d
}

func (d *powerDisk) expect(prefix string) string {
	d.w.Helper()
	if !d.out.Scan() || !strings.HasPrefix(d.out.Text(), prefix) {
		d.w.Fatalf("powercut said %q, not %s", d.out.Text(), prefix)
	}
	return d.out.Text()
}

func (d *powerDisk) say(format string, v ...any) {
	d.w.Helper()
	if _, err := fmt.Fprintf(d.in, format+"\n", v...); err != nil {
		d.w.Fatalf("powercut: %v", err)
	}
}

// cut is a power cut: the disk stops, the bridge is gone, and what is left is what was synced, with a
// part of the rest. It returns the moment of the cut.
func (d *powerDisk) cut(p *process, keep float64) time.Time {
	d.w.Helper()
	d.say("freeze")
	d.expect("frozen")
	at := time.Now()
	_ = p.cmd.Process.Kill() // it ends when the disk answers
	d.say("cut %g %d", keep, d.w.Random.Uint64())
	d.expect("mounted")
	<-p.ended
	return at
}

// refuse gives every change of the disk an error; 0 ends that.
func (d *powerDisk) refuse(errno syscall.Errno) {
	d.w.Helper()
	d.say("refuse %d", int(errno))
	d.expect("done")
}

func (d *powerDisk) stats() string {
	d.say("stats")
	return d.expect("{")
}

// cutPower cuts the power under load, again and again. With sync: always nothing that was accepted may
// be missing afterwards.
func cutPower(w *World, flags ...string) {
	times := w.Pick(2, 25)
	disk := mountPowerDisk(w, flags...)
	s := newProcSite(w, procOptions{setup: processSetup{store: filepath.Join(disk.path, "store")}, patience: time.Minute + time.Duration(times)*10*time.Second})
	s.bridge.start(s.ctx)
	s.bridge.ready(s.ctx)
	s.begin(4 * time.Millisecond)
	for i := range times {
		s.nap(w.Between(100*time.Millisecond, 700*time.Millisecond))
		disk.cut(s.bridge, []float64{0, 0.3, 0.8}[i%3])
		w.Fault()
		s.bridge.start(s.ctx)
		w.Recovered(s.bridge.ready(s.ctx))
	}
	s.nap(200 * time.Millisecond)
	s.finish()
	w.Logf("disk: %s", disk.stats())
	s.expectOnly(0, "nats: Filestore", "packet identifier in use", "larger than the disk", "the last record of a stream was torn", "the end of the journal was torn")
}

// lossWindow is what sync: 1s may cost: the second, the sync itself, and the time that a PubAck needs.
const lossWindow = 1500 * time.Millisecond

// cutPowerInterval does it with sync: 1s. Telemetry that was accepted in the last second may be missing,
// nothing older and nothing from the middle; control must all be there.
func cutPowerInterval(w *World) {
	disk := mountPowerDisk(w)
	s := newProcSite(w, procOptions{setup: processSetup{store: filepath.Join(disk.path, "store"), sync: "1s"}, silent: true, patience: 80 * time.Second})
	s.bridge.start(s.ctx)
	s.bridge.ready(s.ctx)
	s.link.Cut() // what is queued shows what is lost
	s.books, s.journal = fleetsim.NewLedger(), map[string]map[uint64]time.Time{}
	s.begin(4 * time.Millisecond)
	s.nap(w.Between(1500*time.Millisecond, 2500*time.Millisecond))
	at := disk.cut(s.bridge, 0)
	w.Fault()
	s.bridge.start(s.ctx)
	s.link.Restore()
	w.Recovered(s.bridge.ready(s.ctx))
	s.acceptedAgain() // what was accepted last may be lost, and nobody could wait for it
	s.endLoad()
	s.arrivedUp()
	s.judgeInterval(at)
	s.expectOnly(0, "larger than the disk", "connection lost", "cannot connect", "was not on the disk yet", "the end of the journal was torn", "nats: Filestore", "packet identifier in use")
}

// acceptedAgain returns when every lane upwards has had a message accepted since the call.
func (s *procSite) acceptedAgain() {
	s.Helper()
	s.mu.Lock()
	before := maps.Clone(s.last)
	s.mu.Unlock()
	s.untilEachLane("nothing was accepted any more", func(name string) bool { return s.last[name] > before[name] })
}

// judgeInterval tells the world's ledger of everything but the telemetry of the last moment.
func (s *procSite) judgeInterval(at time.Time) {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, accepted := range s.journal {
		lost, oldest := 0, time.Duration(0)
		for _, n := range slices.Sorted(maps.Keys(accepted)) {
			age, here := at.Sub(accepted[n]), s.seen[name][n]
			if !here {
				lost++
				oldest = max(oldest, age)
			}
			if here || strings.HasSuffix(name, "control") || age > lossWindow {
				number := s.Ledger.Next(name)
				s.Ledger.Accepted(name, number)
				if here {
					s.Ledger.Arrived(name, number)
				}
			}
		}
		s.Logf("%s: %d accepted, %d lost, the oldest %v before the cut", name, len(accepted), lost, oldest.Round(time.Millisecond))
	}
}
