package fleetstest_test

import (
	"context"
	"fmt"
	"testing"

	"fleetbridge/bridge/fleetstest"
)

// fakeT records what a test would show.
type fakeT struct {
	fleetstest.T
	logged, failed []string
	cleanup        []func()
}

func (f *fakeT) Helper()                  {}
func (f *fakeT) Context() context.Context { return context.Background() }
func (f *fakeT) Cleanup(c func())         { f.cleanup = append(f.cleanup, c) }
func (f *fakeT) Logf(format string, args ...any) {
	f.logged = append(f.logged, fmt.Sprintf(format, args...))
}
func (f *fakeT) Errorf(format string, args ...any) {
	f.failed = append(f.failed, fmt.Sprintf(format, args...))
}

func TestLog(t *testing.T) {
	f := &fakeT{}
	log := fleetstest.Log(f, fleetstest.Expect("session taken over"), fleetstest.Expect("thing=x"))
	log.Debug("d")
	log.Info("level=WARN in a message")
	log.Warn("session taken over")
	log.With("thing", "x").Error("e")
	if len(f.failed) != 0 || len(f.logged) != 4 {
		t.Errorf("failed %q, logged %q", f.failed, f.logged)
	}
	log.Warn("w")
	log.WithGroup("g").Error("e", "thing", "y")
	if len(f.failed) != 2 {
		t.Errorf("failed %q", f.failed)
	}
	for _, c := range f.cleanup {
		c()
	}
	log.Error("late")
	if len(f.failed) != 2 || len(f.logged) != 4 {
		t.Errorf("after the end: failed %q, logged %q", f.failed, f.logged)
	}
}
