//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// process is a program that runs, with its children in a session of its own.
type process struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has
	out   *output
}

// output is what a process has printed, errors too; it goes on over restarts.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start runs a program until it ends or is ended. env has all its variables.
func start(name, dir string, env, words []string, out *output) (*process, error) {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second // a child that is left behind may hold the output open
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, ended: make(chan struct{}), out: out}
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// kill ends the process and its children, without a chance to clean up.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	for _, pid := range session(p.cmd.Process.Pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-p.ended
}

// stop sends a signal and waits. It is an error when the process takes too long, ends with another code
// than 0, or leaves children behind; they are killed.
func (p *process) stop(number syscall.Signal, patience time.Duration) error {
	if err := p.running(); err != nil {
		return err
	}
	_ = p.cmd.Process.Signal(number)
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.kill()
		return fmt.Errorf("%s did not end within %v of %v", p.name, patience, number)
	}
	defer p.kill()
	if state := p.cmd.ProcessState; !state.Success() {
		return fmt.Errorf("%s: %v after %v", p.name, state, number)
	}
	late := time.After(patience) // its children may be a moment later than it
	for left := session(p.cmd.Process.Pid); len(left) > 0; left = session(p.cmd.Process.Pid) {
		select {
		case <-late:
			return fmt.Errorf("%s left %d processes behind", p.name, len(left))
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// running is an error when the process has ended.
func (p *process) running() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s has ended: %v", p.name, p.cmd.ProcessState)
	default:
		return nil
	}
}

// until looks every so often, until look returns nil, patience is over, ctx has ended, or p has. The error
// is what look said last.
func until(ctx context.Context, p *process, patience time.Duration, look func() error) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := look()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("%w (for %v)", err, patience)
		case <-p.ended:
			return fmt.Errorf("%w; %w", err, p.running())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
