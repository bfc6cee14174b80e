// Package porttest holds one list of tests for what the ports of package bridge promise. Each implementation is run
// through it, and so are the fakes of the core's own tests. What a port does not promise is not asked.
package porttest

import (
	"context"
	"testing"
	"time"
)

// patience is how long a test waits for what should happen at once, also on a machine that is busy besides.
const patience = 2 * time.Minute

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// must ends the test with an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	ctx := deadline(t)
	tick := time.NewTicker(20 * time.Millisecond) // each look costs questions to a server
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not in time: %s", what)
		}
	}
}

// promise is one entry of a list.
type promise[House any] struct {
	name string
	test func(t *testing.T, h House)
}
