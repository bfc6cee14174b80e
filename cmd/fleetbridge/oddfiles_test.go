//go:build unix

package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// No command waits for a pipe that nobody writes into.
func TestPipesInPlaceOfFiles(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "gw.yaml")
	put(t, config, "mqtt: {server: 'mqtt://h'}\nthings: [{name: a, password_file: pipe}]\n")
	for _, args := range [][]string{
		{"run", "--config", pipe}, {"run", "--config", config},
		{"check", "--config", pipe}, {"check", "--config", config},
		{"doctor", "--config", config}, {"acl", "--config", config}, {"healthcheck", "--config", config}, {"dead", "ls", "--config", config},
		{"asyncapi", "--config", config},
		{"validate", "event", pipe}, {"validate", "event", "--schema-dir", pipe, config},
	} {
		if code, text := ends(t, t.Context(), args, strings.NewReader("")); code != failed || !strings.Contains(text, "pipe") {
			t.Errorf("%s: exit code %d, %s", strings.Join(args, " "), code, text)
		}
	}
}

// A signal ends the reading of a configuration and of a payload, whoever keeps them waiting.
func TestSignalEndsReading(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	held := "/dev/fd/" + strconv.Itoa(int(r.Fd()))
	for _, args := range [][]string{{"check", "--config", held}, {"run", "--config", held}, {"doctor", "--config", held}, {"validate", "event"}} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if code, text := ends(t, ctx, args, r); code != failed || !strings.Contains(text, "canceled") {
			t.Errorf("%s: exit code %d, %s", strings.Join(args, " "), code, text)
		}
	}
}

// ends runs a command line that has to end.
func ends(t *testing.T, ctx context.Context, args []string, in io.Reader) (code int, text string) {
	t.Helper()
	var out bytes.Buffer
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, args, streams{in, &out, &out}) }()
	select {
	case code := <-ended:
		return code, out.String()
	case <-time.After(time.Minute):
		t.Fatalf("%s: still running", strings.Join(args, " "))
	}
	return 0, ""
}

// check warns of secrets that others can read; doctor does too.
func TestExposedSecrets(t *testing.T) {
	dir := t.TempDir()
	config, secret := filepath.Join(dir, "gw.yaml"), filepath.Join(dir, "secret")
	put(t, secret, "hunter2")
	put(t, config, "mqtt: {server: 'mqtt://127.0.0.1:1'}\nthings: [{name: a, password_file: secret}, {name: b, password: hunter3}]\nnats: {embedded: {listen: '127.0.0.1:0'}}\nhttp: {listen: ''}\nconsole: {listen: ''}\n")
	for _, mode := range []os.FileMode{0o640, 0o644} {
		for _, path := range []string{config, secret} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		for command, want := range map[string][]string{
			"check":  {"things[0].password_file: " + secret, "things[1].password: " + config, "chmod 600 " + secret, "chmod 640 " + config},
			"doctor": {"warn  secrets    " + secret, "warn  secrets    " + config, "chmod 600 " + secret, "chmod 640 " + config},
		} {
			_, text := ends(t, t.Context(), []string{command, "--config", config}, nil)
			for _, w := range want {
				if strings.Contains(text, w) != (mode == 0o644) {
					t.Errorf("%s, mode %o: %q in\n%s", command, mode, w, text)
				}
			}
			if strings.Contains(text, "hunter") {
				t.Errorf("%s shows a secret:\n%s", command, text)
			}
		}
	}
}
