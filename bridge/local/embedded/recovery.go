package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"fleetbridge/bridge/local/salvage"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"

	"github.com/nats-io/nats.go"
)

// After a write that the disk refused, a stream takes nothing more until JetStream is started again,
// however much room there is by then, and doesn't even answer publishers. So JetStream is stopped, in
// place, which gives them an error at once, and started again when the disk takes something. Programs
// stay connected; queues and buckets find their way by themselves. Guard is there to prevent it.

const (
	probeSize   = 1 << 20
	recoverMin  = time.Second
	recoverMax  = time.Minute
	recoverCalm = 10 * time.Minute // without a failure for so long, patience begins anew
)

// wrote is told every error that the server logs.
func (s *Server) wrote(text string) {
	if !strings.Contains(strings.ToLower(text), "critical write error") {
		return
	}
	if name, ok := damaged(text); ok {
		s.mu.Lock()
		s.damaged[name] = true
		s.mu.Unlock()
	}
	flow.Signal(s.broken)
}

var streamError = regexp.MustCompile(`^JetStream stream '.+ > (\S+)' critical write error: (.*)$`)

// damaged reads the name of a stream out of the server's error, when that is about a record that it can't read: it
// takes these for writes that failed, too, as it reads what it is to remove.
func damaged(text string) (stream string, ok bool) {
	m := streamError.FindStringSubmatch(text)
	if m == nil {
		return "", false
	}
	for _, cause := range []string{"malformed or corrupt message", "unexpected EOF", "no message cache", "deleted message", "partial cache", "corrupt state file", "prior state file", "message block size exceeded"} {
		if strings.Contains(m[2], cause) {
			return m[1], true
		}
	}
	return "", false
}

// recover waits for failures and mends them until the server stops.
func (s *Server) recover() {
	pause, last := recoverMin, time.Time{}
	for {
		select {
		case <-s.stopping:
			return
		case <-s.broken:
		}
		if time.Since(last) > recoverCalm {
			pause = recoverMin
		}
		bad := s.takeDamaged()
		if len(bad) > 0 {
			s.log.Error("records on the disk are damaged, and their streams take nothing more; JetStream starts again without them", "directory", s.dir, "streams", strings.Join(bad, ", "))
		} else {
			s.log.Error("the disk refuses to store messages; publishers get errors until it takes them again", "directory", s.dir)
		}
		s.fail()
		if err := s.stopJetStream(); err != nil {
			s.log.Debug("JetStream can't be stopped", "error", err)
		}
		for try := true; try; pause = min(2*pause, recoverMax) {
			select {
			case <-s.stopping:
				return
			case <-time.After(pause):
			}
			err := s.probe()
			if err == nil {
				s.cutDamaged(bad)
				err = s.startJetStream()
			}
			if err == nil {
				err = s.salvage(bad)
			}
			if try = err != nil; try {
				s.log.Debug("JetStream can't start again yet", "error", err)
			}
		}
		s.reread.say(s.log)
		s.work()
		s.reconnect()
		last = time.Now()
		s.log.Info("the disk takes messages again", "directory", s.dir)
	}
}

// takeDamaged are the streams of which records are damaged.
func (s *Server) takeDamaged() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names = slices.Sorted(maps.Keys(s.damaged))
	clear(s.damaged)
	return names
}

// cutDamaged makes the server read the files of the streams anew, while JetStream is stopped. It then cuts each at its
// first bad record. Buckets are read record by record instead.
func (s *Server) cutDamaged(names []string) {
	for _, name := range names {
		if strings.HasPrefix(name, "KV_") {
			continue
		}
		err := os.Remove(filepath.Join(s.dir, "jetstream", "$G", "streams", name, "msgs", "index.db"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			s.log.Debug("the index of a damaged stream can't be removed", "stream", name, "error", err)
		}
	}
}

// salvage makes damaged buckets whole after JetStream has started.
func (s *Server) salvage(names []string) error {
	if !slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "KV_") }) {
		return nil
	}
	nc, err := s.connect("fleetbridge salvage")
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := wire.JetStream(nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	defer context.AfterFunc(s.ending, cancel)()
	for _, name := range names {
		if strings.HasPrefix(name, "KV_") {
			if err := salvage.Bucket(ctx, js, name, s.log); err != nil {
				return err
			}
		}
	}
	return nil
}

// work begins a time in which JetStream works.
func (s *Server) work() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.working, s.fail = context.WithCancel(context.Background())
}

// Working ends when JetStream fails: nothing that it was asked is answered then. While it is stopped the
// context is over, and it should not be asked.
func (s *Server) Working() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.working
}

// reconnect makes the bridge's connections begin anew: their consumers are gone, and that is how the
// queues learn it at once.
func (s *Server) reconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = slices.DeleteFunc(s.conns, (*nats.Conn).IsClosed)
	for _, nc := range s.conns {
		if err := nc.ForceReconnect(); err != nil {
			s.log.Debug("connection not renewed", "error", err)
		}
	}
}

// probe tells whether the disk takes anything.
func (s *Server) probe() error {
	path := filepath.Join(s.dir, "probe")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeSize))
	err = errors.Join(err, f.Sync(), f.Close(), os.Remove(path))
	return err
}

func (s *Server) stopJetStream() error {
	if config := s.nats.JetStreamConfig(); config != nil {
		config.StoreDir = s.dir
		s.jetStream = config
	}
	return s.nats.ShutdownJetStream()
}

func (s *Server) startJetStream() error {
	if err := s.nats.ShutdownJetStream(); err != nil { // in case the last start got stuck halfway
		return err
	}
	select { // what failed until now is mended with it
	case <-s.broken:
	default:
	}
	salvage.Sequences(s.dir, s.log)
	config := *s.jetStream
	if err := s.nats.EnableJetStream(&config); err != nil {
		return fmt.Errorf("JetStream: %w", err)
	}
	return nil
}
