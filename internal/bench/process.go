package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"
)

// Process is a bridge in a process of its own.
type Process struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *json.Decoder
	mu      sync.Mutex
	greeted reply
}

// stopTime is how long a worker may take to stop before it is killed.
const stopTime = 15 * time.Second

// Start runs a worker, a command line whose process calls Work, and returns when its bridge is ready.
// What it says on its error stream goes to log.
func Start(ctx context.Context, command []string, s Setup, log io.Writer) (*Process, error) {
	// A signal that ends this process must not end the bridge before its numbers are read; it ends when
	// its input does.
	p := &Process{cmd: exec.Command(command[0], command[1:]...)}
	p.cmd.Stderr = log
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.answers = json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the bridge's process: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = p.cmd.Process.Kill() })
	defer stop()
	if p.greeted, err = p.ask(s); err != nil {
		_ = p.Close()
		return nil, errors.Join(context.Cause(ctx), err)
	}
	return p, nil
}

func (p *Process) ask(v any) (r reply, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := json.NewEncoder(p.in).Encode(v); err != nil {
		return r, fmt.Errorf("the bridge's process: %w", err)
	}
	if err := p.answers.Decode(&r); err != nil {
		return r, fmt.Errorf("the bridge's process ended: %w", err)
	}
	if r.Error != "" {
		return r, fmt.Errorf("the bridge's process: %s", r.Error)
	}
	return r, nil
}

// URL is where programs connect.
func (p *Process) URL() string { return p.greeted.URL }

// HTTP is where health and metrics are.
func (p *Process) HTTP() string { return p.greeted.HTTP }

// Usage is the process's so far.
func (p *Process) Usage() (Usage, error) {
	r, err := p.ask(order{Do: "usage"})
	return r.Usage, err
}

// Profile begins to write a CPU profile and returns what ends it.
func (p *Process) Profile(path string) (end func() error, err error) {
	if _, err := p.ask(order{Do: "profile", Path: path}); err != nil {
		return nil, err
	}
	return func() error { _, err := p.ask(order{Do: "profiled"}); return err }, nil
}

// Kill ends the process at once.
func (p *Process) Kill() error { return p.cmd.Process.Kill() }

// Close ends the bridge, and the process with it.
func (p *Process) Close() error {
	_ = p.in.Close()
	late := time.AfterFunc(stopTime, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("the bridge's process: %w", err)
	}
	return nil
}

// inProcess is a bridge in this process. Its processor time can't be told from the load's.
type inProcess struct{ Contender }

func (p inProcess) Usage() (Usage, error) { return Usage{}, nil }
