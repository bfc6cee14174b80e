//go:build unix

package local

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/door"

	"github.com/nats-io/nats.go"
)

const fewOpenFiles = "FLEETBRIDGE_TEST_FEW_OPEN_FILES"

// TestFewOpenFiles: with 1024 open files a stranger's thousands of connections keep nothing from being stored.
func TestFewOpenFiles(t *testing.T) {
	t.Parallel()
	if os.Getenv(fewOpenFiles) != "" {
		serveWithFewFiles(t)
		return
	}
	server := exec.Command("sh", "-c", `ulimit -n 1024 && exec "$0" -test.run '^TestFewOpenFiles$'`, os.Args[0])
	server.Env = append(os.Environ(), fewOpenFiles+"=1")
	var out bytes.Buffer
	server.Stderr = &out
	stdin, err1 := server.StdinPipe()
	stdout, err2 := server.StdoutPipe()
	if err1 != nil || err2 != nil || server.Start() != nil {
		t.Fatal(err1, err2)
	}
	defer func() { _ = stdin.Close(); _ = server.Wait() }()
	lines := bufio.NewReader(stdout)
	url, err := lines.ReadString('\n')
	if err != nil || !strings.HasPrefix(url, "nats://") {
		t.Fatalf("%q %v %s", url, err, out.String())
	}
	url = strings.TrimSpace(url)

	nc, err := nats.Connect(url, nats.UserInfo("a", "secret"), nats.CustomInboxPrefix("_INBOX_a"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	done := make(chan struct{})
	defer close(done)
	for range min(1500, max(door.OpenFiles(), 400)-300) {
		go crowd(strings.TrimPrefix(url, "nats://"), done)
	}
	for i := range 20 {
		m, err := nc.Request("fleets.up.a.events.door", []byte(`{"eventType":"door","severity":"info"}`), patience)
		if err != nil || !strings.Contains(string(m.Data), `"seq"`) {
			t.Fatalf("publish %d: %v %v", i, err, m)
		}
	}
	_ = stdin.Close()
	rest, _ := io.ReadAll(lines)
	if err := server.Wait(); err != nil {
		t.Errorf("%v: %s%s", err, rest, out.String())
	}
}

// crowd is a stranger that comes again.
func crowd(address string, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		default:
		}
		c, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			continue
		}
		ended := make(chan struct{})
		go func() { _, _ = io.Copy(io.Discard, c); close(ended) }()
		select {
		case <-ended:
		case <-done:
		}
		_ = c.Close()
	}
}

// serveWithFewFiles is the other process. What the server logs of files that it can't open fails it.
func serveWithFewFiles(t *testing.T) {
	r := withUsers(t, access.User{Name: "a"})
	r.journal.forgive(" - cid:", "more connections without a login")
	r.journal.expect(t, "the limit of open files is small", "open_files=1024")
	fmt.Println(r.server.URL())
	_, _ = io.Copy(io.Discard, os.Stdin)
}
