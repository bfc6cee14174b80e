package local

import (
	"bufio"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/door"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// What a process on the machine can do that has no login: it speaks to the port, in any language.

// stranger speaks to the listener and returns all that is said until it hangs up.
func (r *rig) stranger(text string) string {
	r.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(r.server.URL(), "nats://"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, text) // it may hang up meanwhile
	var said strings.Builder
	_, err = io.Copy(&said, c)
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		r.t.Errorf("%.80q: the connection stays open", text)
	}
	return said.String()
}

// untouched checks that nothing is stored and a program is served.
func (r *rig) untouched(options ...nats.Option) {
	r.t.Helper()
	queued, err := r.up().Queued(testContext(r.t))
	if err != nil {
		r.t.Fatal(err)
	}
	for thing, n := range queued {
		if n > 0 {
			r.t.Errorf("%d messages of %s are stored", n, thing)
		}
	}
	nc := r.program(options...)
	flush(r.t, nc)
	nc.Close()
}

const forged = "PUB fleets.up.a.events.x 2\r\n{}\r\n"

// TestStrangersWithoutALogin: with users nothing is to be had without one of their logins.
func TestStrangersWithoutALogin(t *testing.T) {
	t.Parallel()
	key, _ := nkeys.CreateUser()
	public, _ := key.PublicKey()
	seed, _ := nkeys.CreateUser()
	other, _ := seed.PublicKey()
	r := withUsers(t, access.User{Name: "alice"}, access.User{Name: "key", NKey: public})
	r.journal.forgive(" - cid:")
	for _, text := range []string{
		forged, "CONNECT {}\r\n" + forged, `CONNECT {"verbose":false,"user":"alice","pass":""}` + "\r\n" + forged, `CONNECT {"user":"alice","pass":"wrong"}` + "\r\n" + forged,
		`CONNECT {"user":"","pass":"secret"}` + "\r\n" + forged, `CONNECT {"auth_token":"secret"}` + "\r\n" + forged, `CONNECT {"user":"alice"}` + "\r\n" + forged,
		`CONNECT {"nkey":"` + public + `"}` + "\r\n" + forged, `CONNECT {"nkey":"` + public + `","sig":"AAAA"}` + "\r\n" + forged, `CONNECT {"nkey":"` + other + `","sig":"AAAA"}` + "\r\n" + forged,
		`CONNECT {"jwt":"eyJ.eyJ.x","sig":"x"}` + "\r\n" + forged, `CONNECT {"account":"$SYS","user":"sys"}` + "\r\n" + forged, `CONNECT {"user":"_fleetbridge","pass":""}` + "\r\n" + forged,
		"SUB > 1\r\n", "PING\r\n" + forged, "PING\r\nSUB fleets.> 1\r\n",
	} {
		said := r.stranger(text)
		if !strings.Contains(said, "-ERR 'Authorization Violation'") && !strings.Contains(said, "-ERR 'Authentication Timeout'") {
			t.Errorf("%q: %q", text, said)
		}
		if strings.Contains(said, "alice") || strings.Contains(said, "MSG ") || strings.Contains(said, "+OK") {
			t.Errorf("%q learns %q", text, said)
		}
	}
	if said := r.stranger(""); !strings.Contains(said, "Authentication Timeout") { // silence
		t.Errorf("silence: %q", said)
	}
	r.untouched(nats.UserInfo("alice", "secret"))
	for _, line := range r.journal.said() {
		if strings.Contains(line, "secret") || strings.Contains(line, "wrong") {
			t.Errorf("logged: %s", line)
		}
	}
}

// TestStrangersInOtherLanguages: also without users, what is not the NATS protocol of clients ends the
// connection before anything is carried out: a web page can't make a browser publish, nor does the
// listener serve routes, leaf nodes, gateways, MQTT or WebSocket.
func TestStrangersInOtherLanguages(t *testing.T) {
	t.Parallel()
	r := newRig(t, "a")
	r.journal.forgive(" - cid:", "begin more large messages")
	for _, text := range []string{
		"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 40\r\n\r\nCONNECT {}\r\n" + forged,
		"GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n\r\n" + forged, "PUT / HTTP/1.1\r\n\r\n" + forged, "OPTIONS / HTTP/1.1\r\n\r\n" + forged, "PATCH / HTTP/1.1\r\n\r\n" + forged,
		"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n",
		"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc", "\x16\x03\x01\x00\x05hello",
		"CONNECT {}\r\nRS+ $G fleets.> 1\r\n" + forged, "CONNECT {}\r\nLS+ fleets.>\r\n" + forged, "CONNECT {}\r\nRMSG $G fleets.up.a.events.x 2\r\n{}\r\n",
		"CONNECT {}\r\nLMSG fleets.up.a.events.x 2\r\n{}\r\n", "CONNECT {}\r\nA+ x\r\n",
		"CONNECT {}\r\nPUB fleets.up.a.events.x 99999999\r\n", "CONNECT {}\r\nPUB fleets.up.a.events.x -1\r\n", "CONNECT {}\r\nPUB fleets.up.a.events.x 999999999999999999999\r\n",
		"CONNECT {}\r\nHPUB fleets.up.a.events.x 10 5\r\n", "CONNECT {}\r\nPUB " + strings.Repeat("x", 1<<16), "CONNECT " + strings.Repeat("{", 1<<16), strings.Repeat("SUB", 1<<15), "CONNECT {]\r\n",
	} {
		said := r.stranger(text)
		if strings.Contains(said, "PubAck") || strings.Contains(said, "MSG ") {
			t.Errorf("%.60q: %q", text, said)
		}
	}
	random := rand.New(rand.NewPCG(3, 5))
	for range 50 {
		b := make([]byte, 1+random.IntN(400))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		r.stranger(string(b) + "\r\n\r\n\x00\x00")
	}
	r.untouched()
}

// TestNobodyReachesTheServersOwnAccount: also without users nobody can stop the server or read it out.
func TestNobodyReachesTheServersOwnAccount(t *testing.T) {
	t.Parallel()
	r := newRig(t, "a")
	nc := r.program()
	for _, subject := range []string{"$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.VARZ", "$SYS.REQ.SERVER." + r.server.NATS().ID() + ".KICK", "$SYS.REQ.SERVER." + r.server.NATS().ID() + ".LDM",
		"$SYS.REQ.SERVER." + r.server.NATS().ID() + ".RELOAD", "$SYS.REQ.ACCOUNT.$SYS.CONNZ", "$JS.API.SERVER.REMOVE"} {
		if m, err := nc.Request(subject, []byte(`{}`), 300*time.Millisecond); err == nil && !strings.Contains(string(m.Data), `"error"`) {
			t.Errorf("%s is answered: %s", subject, m.Data)
		}
	}
	r.untouched()
}

// TestListenerLimits: the server is told how much strangers may take.
func TestListenerLimits(t *testing.T) {
	t.Parallel()
	r := withUsers(t, access.User{Name: "alice"})
	v, err := r.server.NATS().Varz(&server.VarzOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if l := door.LimitsOf(r.journal.log()); l.All() > door.MaxConns || v.MaxSubs != 64<<10 || v.AuthTimeout <= 0 || v.AuthTimeout > 10 || v.MaxControlLine > 4096 {
		t.Errorf("%+v, %d subscriptions, %v s to log in, control lines of %d bytes", l, v.MaxSubs, v.AuthTimeout, v.MaxControlLine)
	}
	for name, n := range map[string]int{"websocket": v.Websocket.Port, "mqtt": v.MQTT.Port, "leaf": v.LeafNode.Port, "route": v.Cluster.Port, "gateway": v.Gateway.Port, "http": v.HTTPPort, "https": v.HTTPSPort} {
		if n != 0 {
			t.Errorf("%s is served on port %d", name, n)
		}
	}
}

// TestGreeting: what everybody is told who connects.
func TestGreeting(t *testing.T) {
	t.Parallel()
	r := withUsers(t, access.User{Name: "alice"})
	r.journal.forgive(" - cid:")
	c, err := net.Dial("tcp", strings.TrimPrefix(r.server.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"alice", "program-", "_fleetbridge", "secret", r.dir} {
		if strings.Contains(line, word) {
			t.Errorf("%q is in the greeting %s", word, line)
		}
	}
}
