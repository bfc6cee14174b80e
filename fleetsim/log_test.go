package fleetsim_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"fleetbridge/fleetsim"
)

// fakeT records what a test would show.
type fakeT struct {
	fleetsim.T
	logged, failed []string
	cleanup        []func()
}

func (f *fakeT) Helper()                  {}
func (f *fakeT) Failed() bool             { return len(f.failed) > 0 }
func (f *fakeT) Context() context.Context { return context.Background() }
func (f *fakeT) Cleanup(c func())         { f.cleanup = append(f.cleanup, c) }
func (f *fakeT) Logf(format string, args ...any) {
	f.logged = append(f.logged, fmt.Sprintf(format, args...))
}
func (f *fakeT) Errorf(format string, args ...any) {
	f.failed = append(f.failed, fmt.Sprintf(format, args...))
}

// end does what a test's end does.
func (f *fakeT) end() {
	for _, c := range f.cleanup {
		c()
	}
}

func TestLog(t *testing.T) {
	f := &fakeT{}
	log := fleetsim.Log(f, fleetsim.Expect("session taken over"), fleetsim.Expect("thing=x"))
	log.Debug("d")
	log.Info("level=WARN in a message")
	log.Warn("session taken over")
	log.With("thing", "x").Error("e")
	live := 0 // with -v a line comes when it is logged
	if testing.Verbose() {
		live = 4
	}
	if len(f.failed) != 0 || len(f.logged) != live {
		t.Errorf("failed %q, logged %q", f.failed, f.logged)
	}
	log.Warn("w")
	log.WithGroup("g").Error("e", "thing", "y")
	if len(f.failed) != 2 {
		t.Errorf("failed %q", f.failed)
	}
	for range 50 {
		log.Info("one of many")
	}
	f.end()
	log.Error("late")
	if len(f.failed) != 2 {
		t.Errorf("after the end: failed %q", f.failed)
	}
	if testing.Verbose() {
		return
	}
	if len(f.logged) != 1 {
		t.Fatalf("after the end: logged %q", f.logged)
	}
	lines := strings.Split(f.logged[0], "\n")
	if len(lines) != 41 || lines[0] != "the last 40 of 55 lines of the log, without DEBUG (-v shows all):" || !strings.Contains(lines[40], "one of many") {
		t.Errorf("shown: %q", lines)
	}
}

// A test that works shows nothing, and one that fails for another reason shows what was logged.
func TestLogIsShownWhenATestFails(t *testing.T) {
	for failed, want := range map[bool]int{true: 1, false: 0} {
		f := &fakeT{}
		log := fleetsim.Log(f)
		log.Debug("d")
		log.Info("connected", "thing", "x")
		if failed {
			f.Errorf("it went wrong")
		}
		f.end()
		switch {
		case testing.Verbose():
			want = 2
		case failed && !strings.Contains(f.logged[0], "msg=connected thing=x"), strings.Contains(fmt.Sprint(f.logged), "msg=d"):
			t.Errorf("logged %q", f.logged)
		}
		if len(f.logged) != want {
			t.Errorf("failed %t: logged %q", failed, f.logged)
		}
	}
}
