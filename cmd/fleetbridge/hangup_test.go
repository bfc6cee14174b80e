//go:build unix

package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// SIGHUP has the configuration read again, and not the bridge ended; a new log level holds from then on.
func TestHangup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gw.yaml")
	config := func(level string) string {
		return `
mqtt: {server: "mqtt://127.0.0.1:1"}
things: [{name: pump-07}]
nats: {embedded: {listen: "127.0.0.1:0", store_dir: data}}
http: {listen: ""}
console: {listen: ""}
log: {level: ` + level + `}
`
	}
	put(t, file, config("warn"))
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	errs, ended := &watched{}, make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"run", "--config", file}, streams{strings.NewReader(""), &bytes.Buffer{}, errs})
	}()
	errs.waitFor(t, "cannot connect") // it runs
	hangup := func(want string) {
		t.Helper()
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		errs.waitFor(t, want)
	}
	put(t, file, config("loud"))
	hangup("the new configuration is refused")
	put(t, file, config("info"))
	hangup(`"configuration reloaded" added=[] removed=[] restarted=[] keys=[log.level]`)
	cancel()
	if code := <-ended; code != done || !strings.Contains(errs.String(), "stopped") {
		t.Errorf("exit code %d, log\n%s", code, errs)
	}
}
