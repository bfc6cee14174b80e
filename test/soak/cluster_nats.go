//go:build !windows

package soak

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"fleetbridge/internal/flow"
)

// natsProcess is one of several NATS servers, of the version in go.mod, each a process of its own.
type natsProcess struct {
	name, binary, config string
	clock                string // file of its clock, with a program of builtWithClock
	client, monitor      string // host:port

	cmd   *exec.Cmd
	ended chan struct{}
}

var builtNATS = sync.OnceValues(func() (string, error) {
	return buildProgram("nats-server", "github.com/nats-io/nats-server/v2")
})

// newNATSCluster writes the configurations; nothing runs yet. The servers tell clients nothing of each other: the bridges
// have links.
func newNATSCluster(w *World, binary string) (out []*natsProcess) {
	w.Helper()
	dir := processDir(w.T)
	var routes, own []string
	for range 3 {
		own = append(own, freeAddress(w.T))
		routes = append(routes, "nats://"+own[len(own)-1])
	}
	for i := range 3 {
		n := &natsProcess{name: fmt.Sprint("n", i+1), binary: binary, client: freeAddress(w.T), monitor: freeAddress(w.T)}
		n.config, n.clock = filepath.Join(dir, n.name+".conf"), filepath.Join(dir, n.name+".clock")
		text := fmt.Sprintf("server_name: %s\nlisten: %q\nhttp: %q\njetstream { store_dir: %q }\ncluster { name: site, listen: %q, no_advertise: true, routes: [%s] }\n",
			n.name, n.client, n.monitor, filepath.Join(dir, n.name), own[i], strings.Join(routes, ", "))
		if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
			w.Fatal(err)
		}
		w.Cleanup(n.kill)
		out = append(out, n)
	}
	return out
}

func (n *natsProcess) start(w *World) {
	w.Helper()
	n.cmd, n.ended = exec.Command(n.binary, "-c", n.config), make(chan struct{})
	n.cmd.Env = append(os.Environ(), clockVariable+"="+n.clock)
	if err := n.cmd.Start(); err != nil {
		w.Fatal(err)
	}
	cmd, ended := n.cmd, n.ended
	go func() { _ = cmd.Wait(); close(ended) }()
}

// healthy returns when the server has caught up with the others.
func (n *natsProcess) healthy(ctx context.Context, w *World) {
	w.Helper()
	asks := http.Client{Timeout: 2 * time.Second}
	for {
		if r, err := asks.Get("http://" + n.monitor + "/healthz"); err == nil {
			_ = r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
		}
		if flow.Sleep(ctx, 100*time.Millisecond) != nil {
			w.Fatalf("NATS server %s is not healthy in time", n.name)
		}
	}
}

// signal sends one to the process, if it runs.
func (n *natsProcess) signal(s syscall.Signal) { _ = n.cmd.Process.Signal(s) }

func (n *natsProcess) kill() { n.end(syscall.SIGKILL) }

// end ends the process by a signal, and returns when it has ended.
func (n *natsProcess) end(s syscall.Signal) {
	if n.cmd == nil {
		return
	}
	n.signal(s)
	<-n.ended
}
