package soak

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fleetbridge/internal/flow"
	"fleetbridge/internal/race"
)

// process is fleetbridge in a process of its own, on the same addresses after every start.
type process struct {
	t      *testing.T
	binary string
	config string
	store  string
	nats   string // nats://host:port
	http   string // http://host:port
	env    []string

	cmd   *exec.Cmd
	began time.Time
	up    chan struct{} // closed when programs can connect
	ended chan struct{} // closed when the process has

	mu    sync.Mutex
	lines []processLine
}

// processLine is what the bridge logged, with its other attributes as JSON.
type processLine struct{ Level, Msg, Text string }

// processSetup is what a process is configured with.
type processSetup struct {
	store  string // directory
	broker string
	things []string
	sync   string
	level  string   // of the log; empty: info
	lines  []string // added at the top level of the configuration
	nats   string   // external servers; empty: the embedded one
	binary string   // empty: built for it
}

var builtDir string // empty: nothing was built

// programDir is where programs are built.
var programDir = sync.OnceValues(func() (dir string, err error) {
	builtDir, err = os.MkdirTemp("", "fleetbridge-soak-")
	return builtDir, err
})

// buildProgram builds a package of the module, or one that it depends on.
func buildProgram(name, path string, flags ...string) (string, error) {
	dir, err := programDir()
	if err != nil {
		return "", err
	}
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "fleetbridge").Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w", err)
	}
	binary := filepath.Join(dir, name)
	cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", binary, path)...)
	cmd.Dir = strings.TrimSpace(string(root))
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return binary, nil
}

// built is the program; with the race detector, if the tests have it, so what they are compiled of is compiled only once.
var built = sync.OnceValues(func() (string, error) {
	return buildProgram("fleetbridge", "./cmd/fleetbridge", fmt.Sprintf("-race=%t", race.Enabled))
})

// removeBuilt removes the program that the scenarios have built.
func removeBuilt() {
	if builtDir != "" {
		_ = os.RemoveAll(builtDir)
	}
}

// newProcess writes the configuration; nothing runs yet.
func newProcess(t *testing.T, s processSetup) *process {
	t.Helper()
	binary, err := s.binary, error(nil)
	if binary == "" {
		binary, err = built()
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	dir := processDir(t)
	if s.store == "" {
		s.store = filepath.Join(dir, "store")
	}
	p := &process{t: t, binary: binary, config: filepath.Join(dir, "bridge.yaml"), store: s.store}
	natsAddr, httpAddr := freeAddress(t), freeAddress(t)
	p.nats, p.http = "nats://"+natsAddr, "http://"+httpAddr
	side := "embedded: {listen: '" + natsAddr + "', store_dir: '" + s.store + "', sync: " + withDefault(s.sync, "always") + "}"
	if s.nats != "" {
		p.nats, side = s.nats, "url: '"+s.nats+"', replicas: 3, embedded: {store_dir: '"+s.store+"'}"
	}
	lines := []string{
		"mqtt: {server: " + s.broker + "}",
		"nats: {" + side + "}",
		"http: {listen: '" + httpAddr + "'}",
		"console: {listen: ''}",
		"log: {level: " + withDefault(s.level, "info") + ", format: json}",
		"commands: {default_ttl: 10m, handler_wait: 30s}",
		"things:",
	}
	for _, name := range s.things {
		lines = append(lines, "  - name: "+name)
	}
	lines = append(lines, s.lines...)
	if err := os.WriteFile(p.config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(p.kill)
	return p
}

func withDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// processDir is a directory that lives until the test ends.
func processDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fleetbridge-soak-")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// given are the addresses that freeAddress has named: they are not in use all the time.
var given sync.Map

// freeAddress is outside of the range from which the system serves, lest somebody's outgoing
// connection has the port when the bridge comes back. It names none twice.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(12000)))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			if _, before := given.LoadOrStore(address, true); !before {
				return address
			}
		}
	}
	t.Fatalf("there is no free port from 20000 to 31999")
	return ""
}

// launch starts the process and doesn't wait.
func (p *process) launch() {
	p.t.Helper()
	p.cmd = exec.Command(p.binary, "run", "--config", p.config)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.up, p.ended = make(chan struct{}), make(chan struct{})
	out, err := p.cmd.StderrPipe()
	if err != nil {
		p.t.Fatalf("%v", err)
	}
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("%v", err)
	}
	go p.follow(p.cmd, out, p.up, p.ended)
}

func (p *process) follow(cmd *exec.Cmd, out io.Reader, up, ended chan struct{}) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := processLine{Text: lines.Text()}
		_ = json.Unmarshal(lines.Bytes(), &line)
		p.mu.Lock()
		p.lines = append(p.lines, line)
		p.mu.Unlock()
		if line.Msg == "programs can connect" {
			close(up)
		}
	}
	_ = cmd.Wait()
	close(ended)
}

// start launches and returns when programs can connect; it tells how long that took.
func (p *process) start(ctx context.Context) time.Duration {
	p.t.Helper()
	p.launch()
	select {
	case <-p.up:
	case <-p.ended:
		p.t.Fatalf("the bridge did not start:\n%s", p.tail())
	case <-ctx.Done():
		p.t.Fatalf("the bridge did not start in time:\n%s", p.tail())
	}
	return time.Since(p.began)
}

// ready returns when /readyz says so; it tells how long after the launch that was.
func (p *process) ready(ctx context.Context) time.Duration {
	p.t.Helper()
	for {
		if r, err := http.Get(p.http + "/readyz"); err == nil {
			_ = r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return time.Since(p.began)
			}
		}
		if flow.Sleep(ctx, 10*time.Millisecond) != nil {
			p.t.Fatalf("the bridge is not ready in time:\n%s", p.tail())
		}
	}
}

// kill ends the process at once, as kill -9 does, and waits until it is gone.
func (p *process) kill() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// stop ends it in order; it tells how long that took.
func (p *process) stop() time.Duration {
	p.t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("stopping the bridge: %v", err)
	}
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		p.t.Errorf("the bridge did not stop:\n%s", p.tail())
		p.kill()
	}
	took := time.Since(began)
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.t.Errorf("the bridge ended with exit code %d:\n%s", code, p.tail())
	}
	return took
}

// log returns what was logged from a mark on, at the levels given; none: all.
func (p *process) log(from int, levels ...string) []processLine {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []processLine
	for _, l := range p.lines[from:] {
		if len(levels) == 0 || strings.Contains(strings.Join(levels, " "), l.Level) {
			out = append(out, l)
		}
	}
	return out
}

// mark is where the log is now.
func (p *process) mark() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

func (p *process) tail() string {
	lines := p.log(0)
	var out []string
	for _, l := range lines[max(0, len(lines)-30):] {
		out = append(out, l.Text)
	}
	return strings.Join(out, "\n")
}

// memory is how much of the machine's memory the process has in use at most so far, in bytes.
func (p *process) memory() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}
