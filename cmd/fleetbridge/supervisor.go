package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// supervised is what a supervisor wants to know of a bridge; *gateway.Gateway is one.
type supervised interface {
	// Listening is closed when programs can connect.
	Listening() <-chan struct{}
	// Alive is nil while the process works.
	Alive(ctx context.Context) error
}

// supervisor talks to systemd by the socket that it names in NOTIFY_SOCKET; without one it says nothing.
type supervisor struct {
	bridge supervised
	// watchdog is after how long without a ping systemd restarts the process; 0: never.
	watchdog time.Duration
	log      *slog.Logger
}

// newSupervisor reads what systemd left in the environment.
func newSupervisor(bridge supervised, log *slog.Logger) supervisor {
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the watchdog of systemd stays without pings", "error", err)
	}
	return supervisor{bridge, watchdog, log}
}

// tell sends READY when programs can connect, then WATCHDOG as long as the bridge is alive, and
// STOPPING when ctx ends. Then it returns.
func (s supervisor) tell(ctx context.Context) {
	select {
	case <-s.bridge.Listening():
	case <-ctx.Done():
		s.notify(daemon.SdNotifyStopping)
		return
	}
	s.notify(daemon.SdNotifyReady)
	s.ping(ctx)
	s.notify(daemon.SdNotifyStopping)
}

// ping asks the bridge three times in the watchdog's time; each question may take as long as until the next one. If the bridge
// does not answer, ping sends nothing, and systemd ends the process when the time is over.
func (s supervisor) ping(ctx context.Context) {
	if s.watchdog == 0 {
		<-ctx.Done()
		return
	}
	pause := s.watchdog / 3
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	silent := false
	for ctx.Err() == nil {
		err := s.alive(ctx, pause)
		switch {
		case err == nil:
			s.notify(daemon.SdNotifyWatchdog)
		case ctx.Err() == nil && !silent:
			s.log.Error("no ping to the watchdog: the bridge does not answer itself", "error", err)
		}
		silent = err != nil
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

func (s supervisor) alive(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.bridge.Alive(ctx)
}

func (s supervisor) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("systemd can't be told", "state", state, "error", err)
	}
}
