package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what should happen at once; a machine that is busy besides needs some of it.
const patience = 2 * time.Minute

// watched is an output that calls seen, once, when a text has been written to it.
type watched struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	text string
	seen func()
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.buf.Write(p)
	if w.seen != nil && strings.Contains(w.buf.String(), w.text) {
		w.seen()
		w.seen = nil
	}
	return n, err
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// A bridge whose broker is away lets programs in, and ends well when it is told to.
func TestRunUntilStopped(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "gw.yaml")
	if err := os.WriteFile(config, []byte(`
mqtt: {server: "mqtt://127.0.0.1:1"}
things: [{name: pump-07}]
nats: {embedded: {listen: "127.0.0.1:0", store_dir: data}}
http: {listen: ""}
console: {listen: ""}
log: {format: json}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	stopped := false
	errs := &watched{text: "programs can connect", seen: func() { stopped = true; cancel() }}
	code := run(ctx, []string{"run", "--config", config}, streams{strings.NewReader(""), &bytes.Buffer{}, errs})
	if code != done || !stopped {
		t.Errorf("exit code %d, log\n%s", code, errs)
	}
	for line := range strings.Lines(errs.String()) {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("no JSON: %s", line)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); err != nil {
		t.Errorf("the store is not beside the configuration: %v", err)
	}
}

// What makes working impossible is said in one line.
func TestRunFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "data"), nil, 0o600); err != nil { // a file where the store belongs
		t.Fatal(err)
	}
	config := filepath.Join(dir, "gw.yaml")
	if err := os.WriteFile(config, []byte(`
mqtt: {server: "mqtt://127.0.0.1:1"}
things: [{name: pump-07}]
nats: {embedded: {listen: "127.0.0.1:0", store_dir: data}}
log: {level: error}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	got := invoke(t, []string{"run", "--config", config}, "")
	if lines := strings.Split(strings.TrimSpace(got), "\n"); lines[len(lines)-1] != "[1]" || !strings.HasPrefix(lines[0], "! fleetbridge: ") {
		t.Errorf("got %s", got)
	}
}
