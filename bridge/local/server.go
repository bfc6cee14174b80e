package local

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"fleetbridge/mapping"
)

// ServerConfig describes the embedded NATS server.
type ServerConfig struct {
	Listen       string // host:port; port 0 takes a free one
	StoreDir     string // made if it isn't there; belongs to one server at a time
	SyncAlways   bool   // each message is on the disk before its PubAck
	SyncInterval time.Duration
	TLS          *tls.Config // of the listener; nil: none
	MaxPayload   int         // largest message in bytes; 0: the server's 1 MiB
	Users        []User      // none: whoever connects may do everything
	Subjects     mapping.Subjects
	Log          *slog.Logger
}

// Server is the embedded NATS server. It serves Connect at once and programs after Listen.
type Server struct {
	nats *server.Server
	own  nkeys.KeyPair // nil without users
	lock *os.File
	host string
	port int
	tls  bool
	dir  string
	log  *slog.Logger
	stop sync.Once

	mu    sync.Mutex
	conns []*nats.Conn // made by Connect
	// memory is where batches are staged; empty: on the disk.
	memory string

	working   context.Context // ends when the disk has refused a write; there is a new one when JetStream is up again
	fail      context.CancelFunc
	broken    chan struct{} // the disk has refused a write
	stopping  chan struct{}
	running   sync.WaitGroup
	jetStream *server.JetStreamConfig // to start it again; of recover's goroutine

	subjects mapping.Subjects
}

var errLocked = errors.New("locked")

// startTimeout bounds the recovery of the streams; it is long because a gateway's flash is slow and an
// unclean stop makes the server read everything.
const startTimeout = 5 * time.Minute

// tlsTimeout is how long a program may take for its handshake.
const tlsTimeout = 10 * time.Second

// maxConns bounds what strangers can take of the process's files; those without a login are let go after
// two seconds.
const maxConns = 4096

// StartServer locks the store directory, recovers what is in it and starts the server without its
// listener.
func StartServer(cfg ServerConfig) (*Server, error) {
	host, port, err := splitListen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.StoreDir, 0o700); err != nil {
		return nil, fmt.Errorf("store directory: %w", err)
	}
	lock, err := lockDir(cfg.StoreDir)
	if err != nil {
		return nil, err
	}
	s := &Server{lock: lock, subjects: cfg.Subjects, host: host, port: port, tls: cfg.TLS != nil, dir: cfg.StoreDir, log: cfg.Log, broken: make(chan struct{}, 1), stopping: make(chan struct{})}
	if err := s.start(cfg); err != nil {
		s.Shutdown()
		return nil, err
	}
	s.work()
	s.running.Go(s.recover)
	return s, nil
}

func (s *Server) start(cfg ServerConfig) error {
	opts := &server.Options{
		ServerName: "fleetbridge", Host: s.host, Port: s.port, DontListen: true, NoSigs: true,
		JetStream: true, StoreDir: cfg.StoreDir, SyncAlways: cfg.SyncAlways, SyncInterval: cfg.SyncInterval,
		MaxPayload: int32(cfg.MaxPayload), // 0: the server's own
		// Limits are the streams' own; one that is larger than the disk must not keep them from starting.
		JetStreamMaxStore: 1 << 60, MaxConn: maxConns,
	}
	if cfg.TLS != nil {
		opts.TLSConfig, opts.TLSTimeout = cfg.TLS, tlsTimeout.Seconds()
	}
	if s.port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	if err := s.login(cfg, opts); err != nil {
		return err
	}
	started, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	s.nats = started
	started.SetLoggerV2(serverLog{cfg.Log, s.wrote, &clientLog{log: cfg.Log}}, false, false, false)
	if err := linkAccounts(started, cfg.Users, cfg.Subjects); err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	started.Start()
	if !started.ReadyForConnections(startTimeout) {
		return fmt.Errorf("embedded NATS server: not ready after %s, look for its messages in the log", startTimeout)
	}
	if !started.JetStreamEnabled() {
		return fmt.Errorf("embedded NATS server: JetStream did not start in %s, look for its messages in the log", cfg.StoreDir)
	}
	// Beside other accounts the global one has JetStream only if asked; without them it has it already.
	if err := started.GlobalAccount().EnableJetStream(nil, nil); err != nil {
		return fmt.Errorf("embedded NATS server: JetStream in %s: %w", cfg.StoreDir, err)
	}
	return nil
}

// login sets the users up, or removes the operator's key when there are none.
func (s *Server) login(cfg ServerConfig, opts *server.Options) error {
	if len(cfg.Users) == 0 {
		err := os.Remove(filepath.Join(cfg.StoreDir, operatorFile))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	operator, err := operatorKey(cfg.StoreDir)
	if err != nil {
		return fmt.Errorf("operator login: %w", err)
	}
	if s.own, err = nkeys.CreateUser(); err != nil {
		return err
	}
	return logins(cfg.Users, cfg.Subjects, s.own, operator, opts)
}

// Connect opens a connection within the process, with the bridge's own rights.
func (s *Server) Connect(name string) (*nats.Conn, error) {
	options := append(connOptions(name, s.log), nats.InProcessServer(s.nats))
	if s.own != nil {
		public, err := s.own.PublicKey()
		if err != nil {
			return nil, err
		}
		options = append(options, nats.Nkey(public, s.own.Sign))
	}
	nc, err := nats.Connect("", options...)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS server: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, nc)
	return nc, nil
}

// Listen lets programs connect. It is called once, when all that they may need is there.
func (s *Server) Listen() error {
	// The server treats a taken port as fatal, so the port is tried first.
	address := net.JoinHostPort(s.host, strconv.Itoa(s.port))
	probe, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("nats.embedded.listen: %w; choose another address, or stop what uses it", err)
	}
	_ = probe.Close()
	s.stage()
	ready := make(chan struct{})
	go s.nats.AcceptLoop(ready)
	<-ready
	if s.nats.Addr() == nil {
		return fmt.Errorf("nats.embedded.listen: cannot listen on %s, look for the server's message in the log", address)
	}
	s.log.Info("NATS server listens", "address", s.nats.Addr().String())
	return nil
}

// URL is where programs connect; empty before Listen.
func (s *Server) URL() string {
	if s.nats == nil || s.nats.Addr() == nil {
		return ""
	}
	if s.tls {
		return "tls://" + s.nats.Addr().String()
	}
	return "nats://" + s.nats.Addr().String()
}

// Shutdown stops the server, waits until its files are closed, and frees the store directory.
func (s *Server) Shutdown() {
	s.stop.Do(func() {
		close(s.stopping)
		s.running.Wait()
		if s.nats != nil {
			s.nats.Shutdown()
			s.nats.WaitForShutdown()
		}
		s.unstage()
		_ = s.lock.Close()
	})
}

func splitListen(listen string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("nats.embedded.listen: %q is no host:port, write for example 127.0.0.1:4222", listen)
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("nats.embedded.listen: %q has no port from 0 to 65535", listen)
	}
	return host, port, nil
}

// lockDir makes sure that one server at a time writes into the directory.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store directory: %w", err)
	}
	err = tryLock(f)
	if errors.Is(err, errLocked) {
		err = fmt.Errorf("store directory %s: another fleetbridge is using it; stop it, or set nats.embedded.store_dir to another directory", dir)
	} else if err != nil {
		err = fmt.Errorf("store directory %s: cannot lock it: %w", dir, err)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// serverLog passes the server's messages on; its notices are details of ours. Fatalf doesn't end the
// process: what is fatal to the server shows as an error of StartServer or Listen.
type serverLog struct {
	log   *slog.Logger
	wrote func(text string)
	about *clientLog
}

func (l serverLog) Noticef(format string, v ...any) {
	l.log.Debug("nats: " + fmt.Sprintf(format, v...))
}
func (l serverLog) Warnf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	level := slog.LevelWarn
	if strings.Contains(text, "on write store state from purge") { // of consumers in memory, whose state nobody reads again
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, "nats: "+text)
}
func (l serverLog) Fatalf(format string, v ...any) { l.log.Error("nats: " + fmt.Sprintf(format, v...)) }
func (l serverLog) Debugf(string, ...any)          {}
func (l serverLog) Tracef(string, ...any)          {}

func (l serverLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if aboutClient(text) {
		l.about.tell(text)
		return
	}
	l.wrote(text)
	level := slog.LevelError
	switch {
	case strings.Contains(text, "failed to store a msg"): // once for each; its publisher has been told
		level = slog.LevelDebug
	case strings.Contains(text, "restoring partial batch"): // after a power cut; nobody had been told that it is stored
		level = slog.LevelInfo
	}
	l.log.Log(context.Background(), level, "nats: "+text)
}
