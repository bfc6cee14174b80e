package cloud

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

func TestConnectAndSubscribe(t *testing.T) {
	for _, compact := range []bool{false, true} {
		play(t, func(c *Config) {
			c.Compact = compact
			c.SessionExpiry = time.Hour
			c.KeepAlive = 1500 * time.Millisecond
		}, func(st *stage) {
			p := st.accept(false)
			c := p.connect
			same(t, "CONNECT", fmt.Sprint(c.ClientID, " ", c.Username, " ", string(c.Password), " ", c.CleanStart, c.KeepAlive, c.ProtocolVersion),
				"pump-07-client pump secret false 2 5")
			same(t, "properties", fmt.Sprint(*c.Properties.SessionExpiryInterval, *c.Properties.ReceiveMaximum, *c.Properties.MaximumPacketSize, c.Properties.TopicAliasMaximum),
				"3600 1024 1114112 <nil>")
			want := mapping.Filters(thing, compact)
			same(t, "filters", len(p.subscribe.Subscriptions), len(want))
			for i, f := range p.subscribe.Subscriptions {
				same(t, "filter", mapping.Filter{Topic: f.Topic, NoLocal: f.NoLocal}, want[i])
				same(t, "QoS", f.QoS, 1)
			}
			state := st.s.State()
			same(t, "state", fmt.Sprint(state.Connected, state.Subscribed, state.SessionPresent, state.Refused), "true true false []")
			same(t, "warnings", st.log.count("WARN"), 0)
			same(t, "connected", st.log.count("INFO connected"), 1)
		})
	}
}

func TestStateChanges(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		p.cut()
		st.accept(true)
		st.stop()
		<-st.ended
		var got []string
		for _, s := range st.states {
			got = append(got, fmt.Sprint(s.Connected, s.Subscribed, s.SessionPresent, " ", s.LastError))
		}
		same(t, "states", strings.Join(got, "\n"), strings.Join([]string{
			"true false false ",
			"true true false ",
			"false false false connection lost: read: the broker closed the connection",
			"true false true connection lost: read: the broker closed the connection",
			"true true true connection lost: read: the broker closed the connection",
			"false false true connection lost: read: the broker closed the connection",
		}, "\n"))
	})
}

// TestCannotConnect: one log line an outage, and another when the reason changes.
func TestCannotConnect(t *testing.T) {
	play(t, nil, func(st *stage) {
		for range 5 {
			st.call().connack(0x87, false)
		}
		synctest.Wait()
		same(t, "error", st.s.State().LastError, "cannot connect: mqtt://broker: CONNACK 0x87 not authorised: check things[].username/password")
		same(t, "warnings", st.log.count("WARN"), 1)
		st.call().connack(0x9D, false, func(p *packets.Properties) { p.ServerReference = "other:1883" })
		synctest.Wait()
		same(t, "error", st.s.State().LastError, `cannot connect: mqtt://broker: CONNACK 0x9D server moved; it names "other:1883": set mqtt.server to it`)
		same(t, "warnings", st.log.count("WARN"), 2)
		for range 5 { // in turn, as with several servers
			st.call().connack(0x87, false)
			st.call().connack(0x9D, false, func(p *packets.Properties) { p.ServerReference = "other:1883" })
		}
		synctest.Wait()
		same(t, "warnings", st.log.count("WARN"), 2)
		if strings.Contains(st.log.String(), "secret") {
			t.Error("the password is in the log")
		}
	})
}

func TestNoMQTT5(t *testing.T) {
	play(t, nil, func(st *stage) {
		st.call().raw([]byte{0x20, 2, 0, 1}) // MQTT 3.1.1: unacceptable protocol version
		synctest.Wait()
		same(t, "error", st.s.State().LastError, "cannot connect: mqtt://broker: malformed CONNACK: the broker does not speak MQTT 5")
		st.call()
		time.Sleep(62 * time.Second)
		same(t, "error", st.s.State().LastError, "cannot connect: mqtt://broker: no CONNACK within 1m0s")
	})
}

func TestServersInTurn(t *testing.T) {
	play(t, func(c *Config) {
		c.Servers = []*url.URL{{Scheme: "mqtt", Host: "a"}, {Scheme: "mqtt", Host: "b"}, {Scheme: "mqtt", Host: "c"}}
	}, func(st *stage) {
		st.call().connack(0x88, false)
		p := st.accept(false)
		p.cut()
		st.call().connack(0x88, true)
		st.call().connack(0x88, true)
		st.accept(true)
		same(t, "dialed", strings.Join(st.dialed, ""), "abbca")
	})
}

func TestReady(t *testing.T) {
	var calls []string
	var last context.Context
	play(t, nil, func(st *stage) {
		st.s.hooks.Ready = func(ctx context.Context, present bool) {
			calls = append(calls, fmt.Sprint(present, st.s.State().Subscribed))
			last = ctx
			<-ctx.Done()
		}
		p := st.call()
		p.connack(0, false)
		synctest.Wait()
		same(t, "before SUBACK", len(calls), 0)
		p.suback(nil)
		synctest.Wait()
		same(t, "after SUBACK", strings.Join(calls, " "), "false true")
		p.cut()
		same(t, "its context", last.Err(), context.Canceled)
		st.accept(true)
		same(t, "again", strings.Join(calls, " "), "false true true true")
	})
}

// TestNothingBeforeSuback: an answer must find its subscription.
func TestNothingBeforeSuback(t *testing.T) {
	play(t, nil, func(st *stage) {
		st.send(event("1"))
		p := st.call()
		p.connack(0, false)
		same(t, "before", p.come(), "SUBSCRIBE")
		p.send(&packets.Suback{PacketID: 1<<16 - 1, Reasons: make([]byte, 13), Properties: &packets.Properties{}})
		same(t, "after", p.come(), "P1:1")
		same(t, "granted at QoS 0", st.log.count("WARN no delivery guarantee"), 1)
	})
}

func TestRefusedFilters(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.call()
		p.connack(0, false)
		delta, request := "$emqx/things/pump-07/shadow/update/delta", "$emqx/commands/things/pump-07/executions/+/request"
		p.suback(map[string]byte{delta: 0x87, request: 0x97})
		done := st.send(event("1"))[0]
		same(t, "the connection is of use", p.come(), "P1:1")
		p.puback(1, 0)
		synctest.Wait()
		same(t, "outcome", done.String(), "[<nil>]")
		state := st.s.State()
		same(t, "state", fmt.Sprint(state.Connected, state.Subscribed), "true false")
		same(t, "refused", strings.Join(state.Refused, "\n"), delta+": 0x87 not authorised: allow the client to subscribe to it\n"+
			request+": 0x97 quota exceeded: set mqtt.subscriptions: compact, which needs 8")
		for range 3 {
			p.suback(map[string]byte{delta: 0x87, request: 0x97})
			same(t, "asked again", len(p.subscribe.Subscriptions), 2)
		}
		synctest.Wait()
		same(t, "warnings", st.log.count("WARN"), 1)
		p.suback(nil)
		synctest.Wait()
		same(t, "subscribed", fmt.Sprint(st.s.State().Subscribed, st.s.State().Refused), "true []")
	})
}

func TestSubscribeWithinLimits(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.call()
		p.connack(0, false, func(p *packets.Properties) {
			size, no := uint32(120), byte(0)
			p.MaximumPacketSize, p.WildcardSubAvailable = &size, &no
		})
		asked := 0
		for asked < 8 {
			p.suback(nil)
			asked += len(p.subscribe.Subscriptions)
			n := 0
			for _, b := range p.subscribe.Buffers() {
				n += len(b)
			}
			if n+5 > 120 {
				t.Errorf("a SUBSCRIBE of %d bytes", n)
			}
		}
		synctest.Wait()
		same(t, "refused", len(st.s.State().Refused), 5)
		same(t, "reason", strings.Contains(st.s.State().Refused[0], "0xA2 wildcard"), true)
	})
}

func TestNoSuback(t *testing.T) {
	play(t, func(c *Config) { c.ConnectTimeout = 10 * time.Second }, func(st *stage) {
		p := st.call()
		p.connack(0, false)
		p.next()
		p.closed()
		synctest.Wait()
		same(t, "error", st.s.State().LastError, "connection lost: subscribe: no SUBACK within 10s")
	})
}

func TestAckTimeout(t *testing.T) {
	play(t, func(c *Config) { c.AckTimeout = 10 * time.Second; c.KeepAlive = time.Hour }, func(st *stage) {
		p := st.accept(false)
		// A slow broker makes progress, however long the last message waits.
		st.send(events(1, 4)...)
		for id := range uint16(4) {
			time.Sleep(9 * time.Second)
			p.puback(1+id, 0)
		}
		synctest.Wait()
		same(t, "connected", st.s.State().Connected, true)
		time.Sleep(time.Hour / 2)
		same(t, "still connected", st.s.State().Connected, true)

		st.send(events(5, 7)...)
		start := time.Now()
		time.Sleep(8 * time.Second)
		p.puback(6, 0) // not the oldest: no progress
		p.closed()
		if d := time.Since(start); d < 10*time.Second || d > 12*time.Second {
			t.Errorf("bounced after %v", d)
		}
		synctest.Wait()
		same(t, "error", st.s.State().LastError, "connection lost: no PUBACK for 10s with messages in flight")
		same(t, "warnings", st.log.count("WARN"), 1)
		p = st.accept(true)
		same(t, "again, one at first", p.come(), "D5:5")
		p.puback(5, 0)
		same(t, "and the rest", p.come(), "D7:7")
	})
}

// TestDeafBroker: a broker that takes messages and acknowledges none is said to do so, until a PUBACK comes, also while
// there is a connection.
func TestDeafBroker(t *testing.T) {
	play(t, func(c *Config) { c.AckTimeout = 10 * time.Second; c.KeepAlive = time.Hour }, func(st *stage) {
		p := st.accept(false)
		st.send(events(1, 2)...)
		same(t, "it comes", p.come(), "P1:1 P2:2")
		for range 3 {
			p.closed()
			p = st.accept(true)
			_ = p.come()
			synctest.Wait()
			state := st.s.State()
			same(t, "subscribed", state.Subscribed, true)
			if len(state.Standing) == 0 || !strings.Contains(state.Standing[0].Reason, "acknowledges nothing") {
				t.Fatalf("it stands still: %v", state.Standing)
			}
		}
		p.puback(1, 0)
		synctest.Wait()
		same(t, "nothing stands still", len(st.s.State().Standing), 0)
	})
}

func TestKeepAlive(t *testing.T) {
	play(t, func(c *Config) { c.KeepAlive = 20 * time.Second }, func(st *stage) {
		p := st.accept(false)
		for range 5 {
			start := time.Now()
			same(t, "packet", p.next().PacketType(), "PINGREQ")
			if d := time.Since(start); d < 10*time.Second || d > 20*time.Second {
				t.Errorf("PINGREQ after %v", d)
			}
			p.raw([]byte{0xD0, 0})
		}
		same(t, "connected", st.s.State().Connected, true)
		same(t, "the last", p.next().PacketType(), "PINGREQ")
		start := time.Now()
		p.closed()
		if d := time.Since(start); d < 20*time.Second || d > 25*time.Second {
			t.Errorf("closed after %v", d)
		}
		synctest.Wait()
		same(t, "error", st.s.State().LastError, "connection lost: keep-alive: the broker sent nothing for 20s")
	})
}

func TestServerKeepAlive(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false, func(p *packets.Properties) { n := uint16(4); p.ServerKeepAlive = &n })
		start := time.Now()
		p.next()
		if d := time.Since(start); d > 4*time.Second {
			t.Errorf("PINGREQ after %v", d)
		}
	})
}

func TestTakeover(t *testing.T) {
	play(t, nil, func(st *stage) {
		for i := range 4 {
			p := st.accept(false)
			p.send(&packets.Disconnect{ReasonCode: 0x8E, Properties: &packets.Properties{}})
			p.closed()
			start := time.Now()
			least := 30 * time.Second << i
			c := <-st.calls
			c.Close()
			if d := time.Since(start); d < least || d > least*3/2+time.Second {
				t.Errorf("takeover %d: back after %v", i, d)
			}
			if i == 0 {
				same(t, "warning", st.log.count(`WARN session taken over client_id=pump-07-client`), 1)
				same(t, "mend", st.log.count("give every Thing one bridge"), 1)
			}
		}
	})
}

// mute is a connection that takes nothing more from some moment on, as after the other side has closed.
type mute struct {
	net.Conn
	closed atomic.Bool
}

func (m *mute) Write(b []byte) (int, error) {
	if m.closed.Load() {
		return 0, syscall.EPIPE
	}
	return m.Conn.Write(b)
}

// TestLastWords: a write fails before the broker's DISCONNECT is read, which says why.
func TestLastWords(t *testing.T) {
	hangUp := func(st *stage) (p *peer) {
		var m mute
		st.wrap = func(c net.Conn) net.Conn { m.Conn = c; return &m }
		p = st.accept(false)
		st.wrap = nil
		m.closed.Store(true)
		st.send(event("1"))
		synctest.Wait()
		return p
	}
	t.Run("said", func(t *testing.T) {
		play(t, nil, func(st *stage) {
			hangUp(st).send(&packets.Disconnect{ReasonCode: 0x8E, Properties: &packets.Properties{}})
			start := time.Now()
			p := st.accept(true)
			if d := time.Since(start); d < 30*time.Second {
				t.Errorf("back after %v: the takeover was not noticed", d)
			}
			same(t, "warning", st.log.count("WARN session taken over"), 1)
			same(t, "sent again", p.come(), "D1:1")
		})
	})
	t.Run("silent", func(t *testing.T) {
		play(t, nil, func(st *stage) {
			p := hangUp(st)
			start := time.Now()
			p.closed()
			if d := time.Since(start); d > time.Second {
				t.Errorf("closed after %v", d)
			}
			synctest.Wait()
			same(t, "error", st.s.State().LastError, "connection lost: write: broken pipe")
		})
	})
	t.Run("nobody takes", func(t *testing.T) {
		play(t, func(c *Config) { c.ReceiveMaximum = 1 }, func(st *stage) {
			p := st.accept(false)
			go func() {
				for id := range uint16(10) {
					p.publish(id+1, notify, "a")
				}
			}()
			synctest.Wait() // the reader waits for room
			st.s.conn().writeFailed(syscall.EPIPE)
			start := time.Now()
			p.closed()
			if d := time.Since(start); d > time.Second {
				t.Errorf("closed after %v", d)
			}
		})
	})
}

// conn is the connection of the moment.
func (s *Session) conn() *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link.conn
}

// TestClosedRightAway: quick closes slow the session down, and the log stays short.
func TestClosedRightAway(t *testing.T) {
	play(t, nil, func(st *stage) {
		for range 10 {
			st.accept(true).cut()
		}
		start := time.Now()
		p := st.accept(true, func(p *packets.Properties) { p.ServerKeepAlive = new(uint16) })
		if d := time.Since(start); d < 500*time.Millisecond {
			t.Errorf("back after %v", d)
		}
		same(t, "warnings", st.log.count("WARN"), 3)
		same(t, "hint", st.log.count("does another client use the client id?"), 1)
		time.Sleep(time.Minute)
		p.cut()
		start = time.Now()
		st.accept(true)
		if d := time.Since(start); d > 200*time.Millisecond {
			t.Errorf("after a long connection: back after %v", d)
		}
		same(t, "warnings", st.log.count("WARN"), 4)
	})
}

func TestAsk(t *testing.T) {
	play(t, nil, func(st *stage) {
		ask := func(payload string) *outcome {
			o := &outcome{}
			m := bridge.Message{Address: mapping.Address{Thing: thing, Channel: mapping.JobsGet}, Payload: []byte(payload)}
			if err := st.s.Ask(context.Background(), m, o.done); err != nil {
				t.Fatal(err)
			}
			return o
		}
		before := ask("before")
		same(t, "not connected", before.String(), "[not connected to the broker]")
		p := st.accept(false, receiveMaximum(2))
		st.send(event("1"))
		same(t, "telemetry", p.come(), "P1:1")
		st.send(event("2"), event("3"))
		same(t, "telemetry", p.come(), "P2:2")
		sent, waiting := ask("q1"), ask("q2")
		p.come()
		p.puback(1, 0)
		same(t, "ahead of telemetry", p.come(), "P3:q1")
		p.cut()
		same(t, "sent and lost", sent.String(), "[not connected to the broker]")
		same(t, "never sent", waiting.String(), "[not connected to the broker]")
		p = st.accept(true)
		same(t, "again, without the questions", p.come(), "D2:2 P4:3")
		answered := ask("q3")
		p.puback(2, 0)
		p.puback(4, 0)
		same(t, "another", p.come(), "P5:q3")
		p.puback(5, 0)
		synctest.Wait()
		same(t, "answered", answered.String(), "[<nil>]")
	})
}

func TestWindow(t *testing.T) {
	play(t, func(c *Config) { c.Window, c.AckTimeout, c.KeepAlive = 3, time.Hour, time.Hour }, func(st *stage) {
		p := st.accept(false)
		st.send(events(1, 3)...)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := st.s.Send(ctx, event("4"), nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the window of 3 took a fourth: %v", err)
		}
		st.send(response("a")) // another class has its own
		same(t, "sent", p.come(), "P1:1 P2:2 P3:3 P4:a")
		returned := make(chan struct{})
		go func() {
			defer close(returned)
			st.send(event("5"))
		}()
		synctest.Wait()
		select {
		case <-returned:
			t.Error("Send did not wait")
		default:
		}
		p.puback(1, 0)
		<-returned
		same(t, "the next", p.come(), "P5:5")
	})
}

// TestEnd: acknowledgements that are ready leave before DISCONNECT, which keeps the session.
func TestEnd(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		p.publish(7, notify, "a")
		p.publish(8, notify, "b")
		ds := st.take(2)
		done := st.send(event("1"))[0]
		p.come()
		ds[0].Settle()
		st.stop()
		<-st.ended
		var got []string
		for _, packet := range p.closed() {
			got = append(got, spell(packet))
			if d, ok := packet.Content.(*packets.Disconnect); ok && d.Properties.SessionExpiryInterval != nil {
				t.Error("DISCONNECT changes the session's expiry")
			}
		}
		same(t, "goodbye", strings.Join(got, " "), "A7 DISCONNECT(0x00)")
		same(t, "unacknowledged", done.String(), "[]")
		same(t, "state", st.s.State().Connected, false)
	})
}

// TestEndReadsOn: the connection stays open until the broker has hung up. If it were closed with something
// unread, the network would reset it, and the broker might never see the last acknowledgements.
func TestEndReadsOn(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		st.stop()
		same(t, "goodbye", spell(p.next()), "DISCONNECT(0x00)")
		start := time.Now()
		for range 3 {
			if _, err := p.c.Write([]byte{0xD0, 0}); err != nil { // a PINGRESP that was under way
				t.Fatal(err)
			}
		}
		p.cut()
		<-st.ended
		if d := time.Since(start); d > 0 {
			t.Errorf("waited %v for a broker that had gone", d)
		}
	})
}

// TestEndWithDeafBroker: a broker that does not read can't hold the session up.
func TestEndWithDeafBroker(t *testing.T) {
	end := func(st *stage) {
		time.Sleep(time.Second)
		start := time.Now()
		st.stop()
		<-st.ended
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("Run took %v to end", d)
		}
	}
	t.Run("before CONNACK", func(t *testing.T) {
		play(t, nil, func(st *stage) {
			c := <-st.calls
			defer c.Close()
			_, _ = c.Read(make([]byte, 1))
			end(st)
		})
	})
	t.Run("connected", func(t *testing.T) {
		play(t, nil, func(st *stage) {
			c := <-st.calls
			defer c.Close()
			read := func() {
				if _, err := packets.ReadPacket(c); err != nil {
					t.Fatal(err)
				}
			}
			read()
			_, _ = c.Write([]byte{0x20, 3, 0, 0, 0})
			read()
			_, _ = c.Write(append([]byte{0x90, 16, 0, 1, 0}, make([]byte, 13)...))
			st.send(event("1"))
			end(st)
		})
	})
}

func TestTraceUpwards(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		m := event("1")
		m.Trace = bridge.Trace{Parent: "00-1", State: "a=1"}
		bad := event("2")
		bad.Trace = bridge.Trace{Parent: "a\x00b", State: "\xff"}
		st.send(m, bad)
		first, second := p.next().Content.(*packets.Publish), p.next().Content.(*packets.Publish)
		same(t, "properties", fmt.Sprint(first.Properties.User), "[{traceparent 00-1} {tracestate a=1}]")
		same(t, "properties", fmt.Sprint(second.Properties.User), "[]")
		same(t, "QoS and retain", fmt.Sprint(first.QoS, first.Retain), "1 false")
	})
}
