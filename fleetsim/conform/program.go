package conform

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// process is a program that runs, with its children in a session of its own where there are such.
type process struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has
}

// startProcess runs a program until it ends or is ended. env comes on top of this process's own.
func startProcess(name string, words, env []string, out io.Writer) (*process, error) {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), out, out
	cmd.WaitDelay = time.Second // a child that is left behind may hold the output open
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// kill ends the process and its children at once, as a power cut would.
func (p *process) kill() {
	if p == nil {
		return
	}
	killGroup(p.cmd)
	<-p.ended
}

// stop sends a signal and waits. It is an error when the process takes too long, ends with another code than 0, or
// leaves children behind, which are killed.
func (p *process) stop(ctx context.Context, signal os.Signal, patience time.Duration) error {
	if err := p.running(); err != nil {
		return err
	}
	defer p.kill()
	_ = p.cmd.Process.Signal(signal)
	late := time.After(patience)
	select {
	case <-p.ended:
	case <-late:
		return fmt.Errorf("%s did not end within %v of %v", p.name, patience, signal)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if state := p.cmd.ProcessState; !state.Success() {
		return fmt.Errorf("%s ended with %v after %v, not with exit code 0", p.name, state, signal)
	}
	for groupLives(p.cmd) { // its children may be a moment later than it
		select {
		case <-late:
			return fmt.Errorf("%s left processes behind", p.name)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// running is an error when the process has ended.
func (p *process) running() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s has ended by itself: %v", p.name, p.cmd.ProcessState)
	default:
		return nil
	}
}

// tail keeps the end of what is written to it, and passes all of it on.
type tail struct {
	to io.Writer

	mu  sync.Mutex
	buf []byte
}

const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - tailSize; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	if t.to != nil {
		_, _ = t.to.Write(p)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

var interrupt, terminate os.Signal = os.Interrupt, syscall.SIGTERM
