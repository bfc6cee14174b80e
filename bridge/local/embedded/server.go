package embedded

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/door"
	"fleetbridge/bridge/local/salvage"
	"fleetbridge/bridge/local/storedir"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Config describes the embedded NATS server.
type Config struct {
	Listen     string        // host:port; port 0 takes a free one
	StoreDir   string        // made if it isn't there; belongs to one server at a time
	TLS        *tls.Config   // of the listener; nil: none
	MaxPayload int           // largest message in bytes; 0: the server's 1 MiB
	Users      []access.User // none: whoever connects may do everything
	Subjects   mapping.Subjects
	Log        *slog.Logger
	Stray      func(Stray)        // hears of each publish on `up` that nothing takes; may be nil
	Penal      func(door.Penalty) // hears of programs' connections that are closed or refused; may be nil
	Limits     door.Limits        // of connections; zero: what the limit of open files leaves
}

// Server is the embedded NATS server. It serves Connect at once and programs after Listen.
type Server struct {
	nats     *server.Server
	subjects mapping.Subjects
	dir      string
	lock     *os.File // of the directory
	log      *slog.Logger
	names    *nats.Conn           // answers which stream has a subject; nil before Listen
	counted  map[string]lastCount // subscriptions when they were last looked at, by account; of who calls cutSubscribed
	listening
	front
	clients
	jets
	strays
	life
}

// listening is where programs connect.
type listening struct {
	host string
	port int
	tls  *tls.Config // nil: none
}

// front is what stands before the server: who may come in, and how fast.
type front struct {
	own nkeys.KeyPair // nil without users
	// logins is nil without users, anybody with them.
	logins  *access.Logins
	anybody *access.Anybody
	door    *door.Door // nil before Listen
	limits  door.Limits
	penal   func(door.Penalty)
	brake   *door.Brake
	marks   *nats.Conn // the brake's
}

// clients are the bridge's own connections.
type clients struct {
	mu     sync.Mutex
	conns  []*nats.Conn // made by Connect
	intake *nats.Conn   // made by ConnectIntake
}

// jets is how JetStream stands, which may have to start again.
type jets struct {
	working   context.Context // ends when the disk has refused a write; there is a new one when JetStream is up again
	fail      context.CancelFunc
	broken    chan struct{}           // the disk has refused a write
	damaged   map[string]bool         // streams that take nothing more, as a record of theirs can't be read
	jetStream *server.JetStreamConfig // to start it again; of recover's goroutine
	reread    reread
}

// strays are what programs publish and nobody takes.
type strays struct {
	up      []byte // begins what programs publish for the cloud
	stray   func(Stray)
	tokens  atomic.Pointer[map[string]bool] // of the configured Things; nil: not known yet
	stirred chan struct{}                   // somebody has sent something, the bridge too
}

// life is how the server ends.
type life struct {
	stop     sync.Once
	stopping chan struct{}
	ending   context.Context // ends when stopping is closed
	end      context.CancelFunc
	running  sync.WaitGroup
}

// startTimeout bounds the recovery of the streams; it is long because a gateway's flash is slow and an
// unclean stop makes the server read everything.
const startTimeout = 5 * time.Minute

// tlsTimeout is how long a program may take for its handshake.
const tlsTimeout = 10 * time.Second

// Start locks the store directory, recovers what is in it and starts the server without its
// listener.
func Start(cfg Config) (*Server, error) {
	host, port, err := splitListen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	lock, err := storedir.Open(cfg.StoreDir, cfg.Log)
	if err != nil {
		return nil, err
	}
	s := &Server{
		lock: lock, subjects: cfg.Subjects, dir: cfg.StoreDir, log: cfg.Log,
		listening: listening{host, port, cfg.TLS}, front: front{penal: cfg.Penal}, life: life{stopping: make(chan struct{})},
		jets:   jets{broken: make(chan struct{}, 1), damaged: map[string]bool{}},
		strays: strays{up: []byte(strings.TrimSuffix(cfg.Subjects.Space(mapping.SpaceUp), ">")), stray: cfg.Stray, stirred: make(chan struct{}, 1)},
	}
	if s.limits = cfg.Limits; s.limits == (door.Limits{}) {
		s.limits = door.LimitsOf(cfg.Log)
	}
	s.ending, s.end = context.WithCancel(context.Background())
	if err := s.start(cfg); err != nil {
		s.Shutdown()
		return nil, err
	}
	s.reread.say(s.log)
	s.work()
	s.running.Go(s.recover)
	if s.marks, err = s.Connect("fleetbridge marks"); err != nil {
		s.Shutdown()
		return nil, err
	}
	s.brake = door.NewBrake(s.marks, s.subjects)
	return s, nil
}

// NATS is the server itself, for what it says of itself; nil if there is no embedded one.
func (s *Server) NATS() *server.Server {
	if s == nil {
		return nil
	}
	return s.nats
}

// Door is where programs connect; nil before Listen.
func (s *Server) Door() *door.Door { return s.door }

// Brake holds back programs that send faster than the bridge reads.
func (s *Server) Brake() *door.Brake { return s.brake }

func (s *Server) start(cfg Config) error {
	opts := &server.Options{
		ServerName: "fleetbridge", Host: s.host, Port: s.port, DontListen: true, NoSigs: true,
		JetStream: true, StoreDir: cfg.StoreDir, // unsynced: see views
		MaxPayload: int32(cfg.MaxPayload), // 0: the server's own
		// Limits are the streams' own; one that is larger than the disk must not keep them from starting.
		JetStreamMaxStore: 1 << 60, MaxSubs: maxSubs, MaxClosedClients: 128,
		MaxSubTokens:    access.MaxSubTokens(s.subjects),
		JetStreamLimits: server.JSLimitOpts{DefaultMaxConsumers: -1}, // a stream has one for each Thing
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
	salvage.Sequences(cfg.StoreDir, cfg.Log)
	started, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	door.Secure(opts)
	s.nats = started
	started.SetLoggerV2(serverLog{cfg.Log, s.wrote, &s.reread}, false, false, false)
	if err := s.welcome(cfg.Users); err != nil {
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
func (s *Server) login(cfg Config, opts *server.Options) error {
	if len(cfg.Users) == 0 {
		s.anybody = access.NewAnybody(cfg.Subjects)
		s.anybody.Open(opts)
		return storedir.RemoveOperator(cfg.StoreDir)
	}
	if err := access.CheckUsers(cfg.Users); err != nil {
		return err
	}
	operator, err := storedir.OperatorKey(cfg.StoreDir, cfg.Log)
	if err != nil {
		return fmt.Errorf("operator login: %w", err)
	}
	if s.own, err = nkeys.CreateUser(); err != nil {
		return err
	}
	if s.logins, err = access.NewLogins(cfg.Subjects, cfg.Log, s.own, operator); err != nil {
		return err
	}
	opts.CustomClientAuthentication, opts.AlwaysEnableNonce = s.logins, true
	return nil
}

// welcome links the users' accounts and lets them log in.
func (s *Server) welcome(users []access.User) error {
	if s.logins == nil {
		s.anybody.Begin(s.nats.GlobalAccount())
		return nil
	}
	return s.logins.Begin(s.nats, users)
}

// Connect opens a connection within the process, with the bridge's own rights.
func (s *Server) Connect(name string) (*nats.Conn, error) {
	nc, err := s.connect(name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, nc)
	return nc, nil
}

// ConnectIntake opens the connection of a Spool. It goes on when JetStream starts again in place.
func (s *Server) ConnectIntake() (*nats.Conn, error) {
	nc, err := s.connect("fleetbridge intake")
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intake = nc
	return nc, nil
}

// OnClosed has f hear of every connection of the bridge's that ends for good; see wire.OnClosed.
func (s *Server) OnClosed(f func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, nc := range append(slices.Clone(s.conns), s.intake) {
		if nc != nil {
			wire.OnClosed(nc, f)
		}
	}
}

func (s *Server) connect(name string) (*nats.Conn, error) {
	options := append(wire.ConnOptions(name, s.log), nats.InProcessServer(&wire.InProcess{Server: s.nats, Stirred: s.stirred}),
		// A connection within the process ends when the server does, or to begin anew when JetStream has.
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if err != nil && !nc.IsClosed() {
				s.log.Warn("NATS connection lost", "name", name, "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { s.log.Debug("NATS connection is back", "name", name) }))
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
	return nc, nil
}

// Listen lets programs connect. It is called once, when all that they may need is there.
func (s *Server) Listen() error {
	address := net.JoinHostPort(s.host, strconv.Itoa(s.port))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("nats.embedded.listen: %w; choose another address, or stop what uses it", err)
	}
	s.door = door.New(listener, door.Config{Limits: s.limits, Anybody: s.logins == nil, TLS: s.tls, Payload: int(s.marks.MaxPayload()),
		Published: s.upward, Costly: s.costly(), Brake: s.brake, Stirred: s.stirred, Penal: s.penal, Log: s.log})
	if s.logins != nil {
		s.logins.Open(s.door)
	}
	if err := s.serveNames(); err != nil {
		_ = s.door.Close()
		return err
	}
	if err := listenOn(s.nats, s.door); err != nil {
		_ = s.door.Close()
		return fmt.Errorf("nats.embedded.listen: %w", err)
	}
	if s.nats.Addr() == nil {
		return fmt.Errorf("nats.embedded.listen: cannot listen on %s, look for the server's message in the log", address)
	}
	s.running.Go(s.watchShares)
	s.log.Info("NATS server listens", "address", s.nats.Addr().String())
	return nil
}

// costly is what programs may do that costs the server more than its bytes.
func (s *Server) costly() (c door.Costly) {
	if c.JetStream = s.logins == nil; c.JetStream {
		c.Names = []byte(namesSubject(s.subjects))
		return c
	}
	c.Unanswered = access.Unanswered(s.subjects)
	return c
}

// URL is where programs connect; empty before Listen.
func (s *Server) URL() string {
	if s.nats == nil || s.nats.Addr() == nil {
		return ""
	}
	if s.tls != nil {
		return "tls://" + s.nats.Addr().String()
	}
	return "nats://" + s.nats.Addr().String()
}

// Shutdown stops the server, waits until its files are closed, and frees the store directory.
func (s *Server) Shutdown() {
	s.stop.Do(func() {
		close(s.stopping)
		s.end()
		s.running.Wait()
		if s.logins != nil {
			s.logins.Close()
		}
		if s.names != nil {
			s.names.Close()
		}
		if s.marks != nil {
			s.marks.Close()
		}
		if s.nats != nil {
			s.nats.Shutdown()
			s.nats.WaitForShutdown()
		}
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
