package local

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/door"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/storedir"
	"fleetbridge/mapping"
)

// TestServerTakesOurListener fails when the server has no such field any more, or does not use it.
func TestServerTakesOurListener(t *testing.T) {
	t.Parallel()
	field, ok := reflect.TypeFor[server.Server]().FieldByName("listener")
	if !ok || field.Type != reflect.TypeFor[net.Listener]() {
		t.Fatalf("the server's listener is %v", field)
	}
	r := newRig(t)
	r.program()
	if r.server.NATS().Addr() != r.server.Door().Addr() || r.server.Door().Counts().Known != 1 {
		t.Errorf("programs come by %v, and the door is %v", r.server.NATS().Addr(), r.server.Door().Addr())
	}
}

// breath is the time between two connections of one besieger.
const breath = 20 * time.Millisecond

var tight = door.Limits{Strangers: 32, Users: 12, Operators: 2}

// narrow is a server with little room and users a, b.
func narrow(t *testing.T, config embedded.Config) *rig {
	t.Helper()
	for _, name := range []string{"a", "b"} {
		config.Users = append(config.Users, access.User{Name: name, Password: "secret", Things: []mapping.Thing{"a"}})
	}
	config.Limits = tight
	r := newRigWith(t, config, StoreConfig{Things: []mapping.Thing{"a"}})
	r.journal.forgive(" - cid:")
	r.journal.forgive("more connections without a login")
	r.journal.forgive("a login has all the connections")
	return r
}

func (r *rig) address() string {
	_, address, _ := strings.Cut(r.server.URL(), "://")
	return address
}

// besiege connects again and again, from n goroutines, and does what f does with each connection, until stop. Each takes a breath
// between two connections: the server is in the same process, and needs the processor to let anybody in.
func besiege(r *rig, n int, f func(net.Conn)) (stop func()) {
	var running sync.WaitGroup
	done := make(chan struct{})
	for range n {
		running.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				c, err := net.DialTimeout("tcp", r.address(), patience)
				if err != nil {
					continue
				}
				closed := make(chan struct{})
				go func() { // ends a connection that waits
					select {
					case <-done:
						_ = c.Close()
					case <-closed:
					}
				}()
				f(c)
				close(closed)
				_ = c.Close()
				select {
				case <-time.After(breath):
				case <-done:
				}
			}
		})
	}
	return sync.OnceFunc(func() { close(done); running.Wait() })
}

// logsIn reports whether a login passes within a generous time, however often it has to be tried.
func (r *rig) logsIn(options ...nats.Option) bool {
	options = append(options, nats.Timeout(5*time.Second), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if nc, err := nats.Connect(r.server.URL(), options...); err == nil {
			r.t.Cleanup(nc.Close)
			return true
		}
	}
	return false
}

// TestStrangersKeepNobodyOut: whoever does not log in is let go for who comes next.
func TestStrangersKeepNobodyOut(t *testing.T) {
	t.Parallel()
	wait := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	many, few := 2*tight.Strangers, 2 // few: who never waits would take the processor from the server, which is in the same process
	for _, at := range []struct {
		name string
		n    int
		do   func(net.Conn)
	}{
		{"silent", many, wait},
		{"hang up at once", few, func(net.Conn) {}},
		{"half a CONNECT", many, func(c net.Conn) { _, _ = io.WriteString(c, `CONNECT {"user":"a",`); wait(c) }},
		{"a byte at a time", few, func(c net.Conn) {
			for _, err := io.WriteString(c, "C"); err == nil; _, err = io.WriteString(c, "O") {
			}
		}},
		{"wrong passwords", few, func(c net.Conn) { _, _ = io.WriteString(c, `CONNECT {"user":"a","pass":"x"}`+"\r\nPING\r\n"); wait(c) }},
		{"half closed", few, func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite(); wait(c) }},
	} {
		t.Run(at.name, func(t *testing.T) {
			r := narrow(t, embedded.Config{})
			kept := r.login("a")
			stop := besiege(r, at.n, at.do)
			defer stop()
			for range 3 {
				if !r.logsIn(nats.UserInfo("b", "secret"), nats.NoReconnect()) {
					t.Fatal("b is kept out")
				}
			}
			if !r.operates() {
				t.Error("the operator is kept out")
			}
			if kept.Stats().Reconnects > 0 || !kept.IsConnected() {
				t.Error("somebody who is logged in was let go")
			}
			stop()
			r.empties()
		})
	}
}

// operates reports whether the operator can log in.
func (r *rig) operates() bool {
	login, err := storedir.OperatorLogin(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.logsIn(login)
}

// empties waits until the door knows of nobody but who is logged in.
func (r *rig) empties() {
	r.t.Helper()
	eventually(r.t, "the door forgets who has gone", func() bool {
		n := r.server.Door().Counts()
		return n.Strangers == 0 && n.Fading == 0 && n.Known == n.In
	})
}

// TestHalfOpenHandshakes: the same with TLS, where strangers may begin a handshake.
func TestHalfOpenHandshakes(t *testing.T) {
	t.Parallel()
	r := narrow(t, embedded.Config{TLS: serverTLS(t)})
	stop := besiege(r, 2*tight.Strangers, func(c net.Conn) {
		_, _ = bufio.NewReader(c).ReadString('\n')
		_, _ = c.Write([]byte{0x16, 3, 1, 2, 0, 1})
		_, _ = io.Copy(io.Discard, c)
	})
	defer stop()
	for range 3 {
		if !r.logsIn(nats.UserInfo("b", "secret"), nats.Secure(&tls.Config{InsecureSkipVerify: true})) {
			t.Fatal("b is kept out")
		}
	}
}

// TestShareOfConnections: a login that opens all it can leaves room for others, and is told why it gets no more.
func TestShareOfConnections(t *testing.T) {
	t.Parallel()
	for _, at := range []struct {
		name  string
		again bool
	}{{"holds all", false}, {"comes again in a loop", true}} {
		t.Run(at.name, func(t *testing.T) {
			r := narrow(t, embedded.Config{})
			n := 0
			for ; ; n++ {
				said, conn := r.connectAs("a")
				if strings.Contains(said, "maximum account active connections exceeded") {
					break
				}
				if !strings.Contains(said, "PONG") || n > tight.Users {
					t.Fatalf("connection %d: %q", n, said)
				}
				defer conn.Close()
			}
			if n != tight.Users/2 {
				t.Errorf("a has %d connections, of %d", n, tight.Users)
			}
			if at.again {
				defer besiege(r, 20, func(c net.Conn) {
					_, _ = io.WriteString(c, `CONNECT {"user":"a","pass":"secret"}`+"\r\nPING\r\n")
					_, _ = io.Copy(io.Discard, c)
				})()
			}
			if !r.logsIn(nats.UserInfo("b", "secret")) {
				t.Error("b is kept out")
			}
			if !r.operates() {
				t.Error("the operator is kept out")
			}
			if nc, err := r.server.Connect("another of the bridge's"); err != nil {
				t.Error(err)
			} else {
				nc.Close()
			}
			r.journal.expect(t, "a login has all the connections", "user=a")
		})
	}
}

// connectAs logs in, and returns what the server says to a ping.
func (r *rig) connectAs(name string) (string, net.Conn) {
	r.t.Helper()
	c, err := net.Dial("tcp", r.address())
	if err != nil {
		r.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(c)
	_, _ = in.ReadString('\n')
	_, _ = fmt.Fprintf(c, `CONNECT {"user":%q,"pass":"secret","verbose":false}`+"\r\nPING\r\n", name)
	for {
		line, err := in.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "PONG") || strings.HasPrefix(line, "-ERR") {
			return line, c
		}
	}
}

// TestAnotherLoginOnAConnection: who logs in twice on a connection has one place.
func TestAnotherLoginOnAConnection(t *testing.T) {
	t.Parallel()
	r := narrow(t, embedded.Config{})
	_, c := r.connectAs("a")
	defer c.Close()
	in := bufio.NewReader(c)
	for i := range 3 * tight.Users {
		_, _ = fmt.Fprintf(c, `CONNECT {"user":%q,"pass":"secret","verbose":false}`+"\r\nPING\r\n", []string{"a", "b"}[i%2])
		if line, err := in.ReadString('\n'); err != nil {
			t.Fatal(line, err)
		}
	}
	if n := r.server.Door().Counts().In; n != 1 {
		t.Errorf("%d places", n)
	}
	_ = c.Close()
	r.empties()
}

// TestProgramsWithoutUsers: whoever says something is a program, and has room beside who is silent.
func TestProgramsWithoutUsers(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, embedded.Config{Limits: tight}, StoreConfig{})
	r.journal.forgive("more connections without a login")
	r.journal.forgive("a login has all the connections")
	r.journal.forgive(" - cid:")
	stop := besiege(r, 2*tight.Strangers, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	defer stop()
	for i := range tight.Users {
		if !r.logsIn() {
			t.Fatalf("program %d is kept out", i)
		}
	}
	if nc, err := nats.Connect(r.server.URL(), nats.Timeout(2*time.Second)); err == nil {
		nc.Close()
		t.Error("there is no bound")
	}
}

func serverTLS(t *testing.T) *tls.Config {
	s := httptest.NewTLSServer(nil)
	t.Cleanup(s.Close)
	return &tls.Config{Certificates: s.TLS.Certificates}
}
