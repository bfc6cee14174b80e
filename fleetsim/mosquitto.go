package fleetsim

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// MosquittoOptions configure a mosquitto process.
type MosquittoOptions struct {
	Log *slog.Logger // mosquitto's own lines at debug; default: none
	// Dir holds the configuration and the persistent store; empty: a temporary one, removed by Close.
	Dir string
	// Persistence keeps sessions and queued messages over a restart.
	Persistence bool
	// Binary is where mosquitto is; empty: looked for in PATH and /usr/sbin.
	Binary string
	// Lines are added to the configuration.
	Lines []string
}

// ErrNoMosquitto is returned when mosquitto is not installed. The caller decides what that means; a
// test that needs it should fail.
var ErrNoMosquitto = errors.New("mosquitto is not installed, install the package mosquitto")

// Mosquitto is a real broker in a process of its own, on a free port of 127.0.0.1, that lets
// everybody in and drops nothing (max_queued_messages 0).
type Mosquitto struct {
	options MosquittoOptions
	binary  string
	port    int
	config  string
	scratch bool

	mu      sync.Mutex
	process *exec.Cmd
	ended   chan error
}

// NewMosquitto starts one and returns when it accepts connections.
func NewMosquitto(ctx context.Context, o MosquittoOptions) (*Mosquitto, error) {
	m := &Mosquitto{options: o}
	var err error
	if m.binary, err = findMosquitto(o.Binary); err != nil {
		return nil, err
	}
	if o.Dir == "" {
		if m.options.Dir, err = os.MkdirTemp("", "fleets-mosquitto-"); err != nil {
			return nil, fmt.Errorf("mosquitto: %w", err)
		}
		m.scratch = true
	}
	for range 5 { // another process may take the port between our look and mosquitto's
		if err = m.configure(); err == nil {
			err = m.Start(ctx)
		}
		if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "in use") {
			break
		}
	}
	if err != nil {
		_ = m.Close()
		return nil, err
	}
	return m, nil
}

func findMosquitto(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoMosquitto
}

func (m *Mosquitto) configure() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("mosquitto: %w", err)
	}
	m.port = l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	lines := []string{
		fmt.Sprintf("listener %d 127.0.0.1", m.port), "allow_anonymous true", "max_queued_messages 0",
		"set_tcp_nodelay true", "log_dest stderr", "log_type error", "log_type warning", "log_type notice", "log_type information",
	}
	if m.options.Persistence {
		lines = append(lines, "persistence true", "persistence_location "+m.options.Dir+string(filepath.Separator), "autosave_interval 1", "autosave_on_changes true")
	}
	if os.Geteuid() == 0 {
		lines = append(lines, "user root") // else it gives up its rights and cannot read the directory
	}
	lines = append(lines, m.options.Lines...)
	m.config = filepath.Join(m.options.Dir, "mosquitto.conf")
	if err := os.WriteFile(m.config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return fmt.Errorf("mosquitto: %w", err)
	}
	return nil
}

// URL is mqtt://127.0.0.1:port, the same after every restart.
func (m *Mosquitto) URL() string { return fmt.Sprintf("mqtt://127.0.0.1:%d", m.port) }

// Start starts a stopped mosquitto again and returns when it accepts connections.
func (m *Mosquitto) Start(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != nil {
		return errors.New("mosquitto: runs already")
	}
	cmd := exec.Command(m.binary, "-c", m.config)
	out, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("mosquitto: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("mosquitto: %w", err)
	}
	running, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		said := m.follow(out, running)
		if err := cmd.Wait(); err != nil {
			ended <- fmt.Errorf("mosquitto: %w: %s", err, said)
			return
		}
		ended <- nil
	}()
	m.process, m.ended = cmd, ended
	select {
	case <-running:
		return nil
	case err := <-ended:
		m.process = nil
		if err == nil {
			err = errors.New("mosquitto: ended at once")
		}
		return err
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		<-ended
		m.process = nil
		return fmt.Errorf("mosquitto: %w", ctx.Err())
	}
}

// follow logs what mosquitto says, tells when it runs, and returns its error lines.
func (m *Mosquitto) follow(out io.Reader, running chan<- struct{}) (said string) {
	log, told := orDiscard(m.options.Log), false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		log.Debug("mosquitto", "line", line)
		if strings.Contains(line, "Error") {
			said = strings.TrimPrefix(said+"; "+line, "; ")
		}
		if !told && strings.HasSuffix(line, " running") {
			told = true
			close(running)
		}
	}
	return said
}

// Stop ends mosquitto in order: with persistence it writes its store first.
func (m *Mosquitto) Stop(ctx context.Context) error { return m.end(ctx, os.Interrupt) }

// Kill ends mosquitto at once, as a crash or a power cut would; it may lose what it holds.
func (m *Mosquitto) Kill() error { return m.end(context.Background(), os.Kill) }

func (m *Mosquitto) end(ctx context.Context, signal os.Signal) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil {
		return nil
	}
	if err := m.process.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		_ = m.process.Process.Kill() // the system knows no such signal
	}
	var err error
	select {
	case err = <-m.ended:
	case <-ctx.Done():
		_ = m.process.Process.Kill()
		<-m.ended
		err = fmt.Errorf("mosquitto: killed, it did not stop: %w", ctx.Err())
	}
	m.process = nil
	if signal == os.Kill {
		return nil
	}
	return err
}

// Restart is Stop and Start.
func (m *Mosquitto) Restart(ctx context.Context) error {
	if err := m.Stop(ctx); err != nil {
		return err
	}
	return m.Start(ctx)
}

// Close ends mosquitto and removes its temporary directory.
func (m *Mosquitto) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := m.Stop(ctx)
	if m.scratch {
		err = errors.Join(err, os.RemoveAll(m.options.Dir))
	}
	return err
}

// StartMosquitto starts one that lives until the test ends, and fails the test when it cannot.
func StartMosquitto(t T, o MosquittoOptions) *Mosquitto {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	m, err := NewMosquitto(ctx, o)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("%v", err)
		}
	})
	return m
}
