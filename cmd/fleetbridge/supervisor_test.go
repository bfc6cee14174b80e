//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fleetbridge/fleetsim"
)

// patient is a bridge whose life is in the test's hands.
type patient struct {
	listening chan struct{}
	hung      atomic.Bool
	asked     chan struct{}
}

func (p *patient) Listening() <-chan struct{} { return p.listening }

func (p *patient) Alive(ctx context.Context) error {
	select {
	case p.asked <- struct{}{}:
	default:
	}
	if p.hung.Load() {
		<-ctx.Done()
		return errors.New("hung")
	}
	return nil
}

// systemd listens in systemd's place; its next returns one notification.
func systemd(t *testing.T) (next func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		t.Helper()
		_ = l.SetReadDeadline(time.Now().Add(patience))
		b := make([]byte, 200)
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

// READY comes when programs can connect and not before, WATCHDOG while the bridge answers itself and no
// longer, STOPPING at the end.
func TestSupervisor(t *testing.T) {
	next := systemd(t)
	t.Setenv("WATCHDOG_USEC", "30000")
	p := &patient{listening: make(chan struct{}), asked: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var log bytes.Buffer
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		newSupervisor(p, slog.New(slog.NewTextHandler(&log, nil))).tell(ctx)
	}()
	select {
	case <-p.asked:
		t.Error("asked before it listens")
	case <-time.After(50 * time.Millisecond): // nothing can be waited for
	}
	close(p.listening)
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if got := next(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	p.hung.Store(true)
	for range 5 { // the first may have begun before
		<-p.asked
	}
	cancel()
	<-ended
	if n := strings.Count(log.String(), "no ping to the watchdog"); n != 1 {
		t.Errorf("said %d times:\n%s", n, &log)
	}
	pings := 0
	for got := next(); got != "STOPPING=1"; got = next() {
		pings++
	}
	if pings > 20 { // those of before it hung
		t.Errorf("%d pings", pings)
	}
}

// A bridge that hangs is spoken for no more.
func TestNoPingForTheHung(t *testing.T) {
	next := systemd(t)
	p := &patient{listening: make(chan struct{}), asked: make(chan struct{})}
	p.hung.Store(true)
	close(p.listening)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		supervisor{p, 30 * time.Millisecond, slog.New(slog.DiscardHandler)}.tell(ctx)
	}()
	for range 3 {
		<-p.asked
	}
	cancel()
	<-ended
	if got := []string{next(), next()}; got[0] != "READY=1" || got[1] != "STOPPING=1" {
		t.Errorf("got %s", got)
	}
}

// Without systemd nothing is sent, and it ends all the same, also before programs can connect.
func TestNoSupervisor(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	newSupervisor(&patient{listening: make(chan struct{})}, fleetsim.Log(t)).tell(ctx)
}
