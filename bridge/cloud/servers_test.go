package cloud

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/gorilla/websocket"
)

func listed(hosts ...string) func(*Config) {
	return func(c *Config) {
		c.Servers = nil
		for _, h := range hosts {
			c.Servers = append(c.Servers, &url.URL{Scheme: "mqtt", Host: h})
		}
	}
}

func (st *stage) tried() string {
	st.mu.Lock()
	defer st.mu.Unlock()
	return strings.Join(st.dialed, " ")
}

// TestServersThatDoNotWork: a server that can be reached and does nothing, or sends its clients away, is left.
func TestServersThatDoNotWork(t *testing.T) {
	disconnects := func(code byte) func(*stage) {
		return func(st *stage) {
			p := st.accept(false)
			p.send(&packets.Disconnect{ReasonCode: code, Properties: &packets.Properties{}})
			p.closed()
		}
	}
	for name, first := range map[string]func(*stage){
		"0x88": disconnects(0x88), "0x89": disconnects(0x89), "0x8B": disconnects(0x8B), "0x9C": disconnects(0x9C), "0x9D": disconnects(0x9D),
		"is silent":          func(st *stage) { st.call().closed() },
		"refuses":            func(st *stage) { st.call().connack(0x87, false) },
		"hangs up":           func(st *stage) { (<-st.calls).Close() },
		"hangs up later":     func(st *stage) { p := st.call(); p.connack(0, false); p.next(); p.cut() },
		"grants nothing":     func(st *stage) { p := st.call(); p.connack(0, false); p.next(); p.closed() },
		"takes and is deaf":  func(st *stage) { p := st.accept(false); st.send(event("1")); p.closed() },
		"speaks no MQTT":     func(st *stage) { st.call().raw([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) },
		"speaks an old MQTT": func(st *stage) { st.call().raw([]byte{0x20, 2, 0, 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, listed("a", "b"), func(st *stage) {
				start := time.Now()
				first(st)
				p := st.accept(false)
				same(t, "tried", st.tried(), "a b")
				if d := time.Since(start); d > 40*time.Second {
					t.Errorf("the second was tried after %v", d)
				}
				p.come()
				p.puback(1, 0)
				p.puback(2, 0)
				p.cut()
				p = st.accept(true)
				same(t, "the good one is kept", st.tried(), "a b b")
				go p.keepsUp()
				time.Sleep(firstAgain)
				same(t, "connected", st.s.State().Connected, true)
				p.cut()
				st.accept(true)
				same(t, "the first is tried again", st.tried(), "a b b a")
			})
		})
	}
}

// keepsUp answers pings until the connection is over.
func (p *peer) keepsUp() {
	for packet := range p.in {
		if _, ping := packet.Content.(*packets.Pingreq); ping {
			p.raw([]byte{0xD0, 0})
		}
	}
}

// TestServerReference: a broker may send its clients to a server of the list, and nowhere else.
func TestServerReference(t *testing.T) {
	for reference, then := range map[string]string{
		"c:1883": "a c", "c": "a c", "evil.example:1883": "a b", "mqtt://c:1883/../": "a b", "": "a b", "c.evil.example": "a b",
	} {
		t.Run(reference, func(t *testing.T) {
			play(t, listed("a", "b", "c"), func(st *stage) {
				p := st.accept(false)
				p.send(&packets.Disconnect{ReasonCode: 0x9C, Properties: &packets.Properties{ServerReference: reference}})
				p.closed()
				st.accept(false)
				same(t, "tried", st.tried(), then)
			})
		})
	}
}

// TestAddressesOfAName: each address is a member of the list, in turns of the families.
func TestAddressesOfAName(t *testing.T) {
	addresses := func(all ...string) (out []netip.Addr) {
		for _, a := range all {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	names := map[string][]netip.Addr{"name": addresses("2001:db8::1", "2001:db8::2", "192.0.2.1", "::ffff:192.0.2.1")}
	playNamed(t, names, listed("name"), func(st *stage) {
		start := time.Now()
		silent := st.call()  // takes the connection and says nothing
		(<-st.calls).Close() // the other family's
		p := st.accept(false)
		same(t, "tried", st.tried(), "name=2001:db8::1 name=192.0.2.1 name=2001:db8::2")
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("took %v", d)
		}
		silent.closed()
		st.mu.Lock()
		st.names["name"] = addresses("192.0.2.7", "2001:db8::2") // the name's addresses change their order
		st.mu.Unlock()
		p.cut()
		p = st.accept(true)
		same(t, "kept", strings.HasSuffix(st.tried(), " name=2001:db8::2"), true)
		st.mu.Lock()
		st.names["name"] = addresses("192.0.2.8", "192.0.2.9") // and go
		st.mu.Unlock()
		p.cut()
		p = st.accept(true)
		same(t, "another", strings.HasSuffix(st.tried(), " name=192.0.2.8"), true)
		st.mu.Lock()
		delete(st.names, "name") // and nobody knows the name
		st.mu.Unlock()
		p.cut()
		st.accept(true)
		same(t, "as the name says", strings.HasSuffix(st.tried(), " name"), true)
	})
}

// TestPatience: servers of a list are given the whole time when none answers quickly.
func TestPatience(t *testing.T) {
	play(t, listed("a", "b"), func(st *stage) {
		for range 4 { // 15 s each, then 30 s
			st.call().closed()
		}
		p := st.call()
		time.Sleep(50 * time.Second)
		p.connack(0, false)
		p.suback(nil)
		synctest.Wait()
		same(t, "ready", st.s.State().Subscribed, true)
	})
}

func TestInterleave(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "",
		"192.0.2.1":               "192.0.2.1",
		"192.0.2.1 192.0.2.2":     "192.0.2.1 192.0.2.2",
		"::1 ::2 192.0.2.1":       "::1 192.0.2.1 ::2",
		"192.0.2.1 ::1 ::2":       "192.0.2.1 ::1 ::2",
		"::1 192.0.2.1 ::1 ::2":   "::1 192.0.2.1 ::2",
		"::ffff:192.0.2.1 ::1":    "192.0.2.1 ::1",
		"::1 192.0.2.2 192.0.2.1": "::1 192.0.2.2 192.0.2.1",
	} {
		var addrs []netip.Addr
		for _, a := range strings.Fields(in) {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		var got []string
		for _, a := range interleave(addrs) {
			got = append(got, a.String())
		}
		same(t, in, strings.Join(got, " "), want)
	}
}

// A query may be a token: people see that there is one, also of a server that sends it elsewhere.
func TestShown(t *testing.T) {
	t.Parallel()
	u, err := url.Parse("wss://broker.example.com/mqtt?token=t0k3n")
	if err != nil {
		t.Fatal(err)
	}
	if got := (server{url: u}).String(); got != "wss://broker.example.com/mqtt?…" {
		t.Error(got)
	}
	elsewhere := &http.Response{Status: "302 not for token=t0k3n", Header: http.Header{"Location": {"https://login.example.com/?back=wss&token=t0k3n"}}}
	if err := refusedUpgrade(websocket.ErrBadHandshake, elsewhere, u.RawQuery); strings.Contains(err.Error(), "t0k3n") || !strings.Contains(err.Error(), "https://login.example.com/") {
		t.Error(err)
	}
}
