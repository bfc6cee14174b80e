package cloud

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"fleetbridge/bridge"
)

// reads counts what comes until a PUBLISH with that payload, and answers pings and messages.
func (p *peer) reads(until string) (messages, pings int) {
	p.t.Helper()
	for {
		switch c := p.next().Content.(type) {
		case *packets.Publish:
			messages++
			p.puback(c.PacketID, 0)
			if string(c.Payload) == until {
				return messages, pings
			}
		case *packets.Pingreq:
			pings++
			p.raw([]byte{0xD0, 0})
		default:
			p.t.Fatalf("unexpected %T", c)
		}
	}
}

// TestSlowUpload: a link that carries messages carries them, however long it takes; nothing begins again.
func TestSlowUpload(t *testing.T) {
	for _, c := range []struct {
		rate, size      int
		ack, alive, sum time.Duration
	}{
		{rate: 2000, size: 128 << 10, ack: 30 * time.Second, alive: 30 * time.Second, sum: 70 * time.Second},
		{rate: 2000, size: 128 << 10, ack: 3 * time.Second, alive: 2 * time.Second, sum: 70 * time.Second},
		{rate: 100, size: 20 << 10, ack: 30 * time.Second, alive: 60 * time.Second, sum: 220 * time.Second},
		{rate: 50, size: 3 << 10, ack: 10 * time.Second, alive: 20 * time.Second, sum: 80 * time.Second},
	} {
		t.Run(fmt.Sprintf("%d bytes at %d a second, ack_timeout %v", c.size, c.rate, c.ack), func(t *testing.T) {
			play(t, func(cfg *Config) { cfg.AckTimeout, cfg.KeepAlive = c.ack, c.alive }, func(st *stage) {
				p := st.accept(false)
				st.link.up.Store(int64(c.rate))
				start := time.Now()
				st.send(event(strings.Repeat("x", c.size)))
				st.send(events(1, 5)...)
				messages, _ := p.reads("5")
				same(t, "messages", messages, 6)
				if d := time.Since(start); d > c.sum {
					t.Errorf("took %v", d)
				}
				same(t, "bounces", st.log.count("connection lost"), 0)
			})
		})
	}
}

// TestUploadStops: what stops moving is given up, whatever moved before.
func TestUploadStops(t *testing.T) {
	for name, keepAlive := range map[string]time.Duration{"by ack_timeout": time.Hour, "by keep_alive": 10 * time.Second} {
		t.Run(name, func(t *testing.T) {
			play(t, func(c *Config) { c.AckTimeout, c.KeepAlive = 30*time.Second, keepAlive }, func(st *stage) {
				p := st.accept(false)
				st.link.up.Store(2000)
				st.send(event(strings.Repeat("x", 128<<10)))
				time.Sleep(30 * time.Second)
				same(t, "bounces", st.log.count("connection lost"), 0)
				st.link.up.Store(1) // a byte a second is no progress
				start := time.Now()
				p.closed()
				if d := time.Since(start); d > 75*time.Second {
					t.Errorf("noticed after %v", d)
				}
			})
		})
	}
}

// TestSwallowedMessage: others that pass, and pings that are answered, are no excuse for one that is not acknowledged.
func TestSwallowedMessage(t *testing.T) {
	play(t, func(c *Config) { c.AckTimeout, c.KeepAlive = 10*time.Second, 4*time.Second }, func(st *stage) {
		p := st.accept(false)
		st.send(event("swallowed"))
		p.next()
		start := time.Now()
		for n := 0; ; n++ {
			if time.Since(start) > time.Minute {
				t.Fatal("never bounced")
			}
			o := st.send(event(strings.Repeat("x", 1000)))[0]
			for o.String() == "[]" {
				select {
				case packet, ok := <-p.in:
					if !ok {
						return
					}
					switch c := packet.Content.(type) {
					case *packets.Publish:
						p.puback(c.PacketID, 0)
					case *packets.Pingreq:
						p.raw([]byte{0xD0, 0})
					}
				case <-time.After(time.Second):
				}
			}
			time.Sleep(time.Second)
		}
	})
}

// TestSlowReplay: what waits in a kept session comes before SUBACK and takes its time; meanwhile messages go up.
func TestSlowReplay(t *testing.T) {
	for _, c := range []struct{ rate, size, count int }{{4000, 60000, 1}, {2000, 128 << 10, 1}, {1000, 3000, 40}} {
		t.Run(fmt.Sprintf("%d of %d bytes at %d a second", c.count, c.size, c.rate), func(t *testing.T) {
			play(t, func(cfg *Config) { cfg.ConnectTimeout = 10 * time.Second }, func(st *stage) {
				st.accept(false).cut()
				st.send(event("up"))
				p := st.call()
				p.connack(0, true)
				st.link.down.Store(int64(c.rate))
				for id := range uint16(c.count) {
					p.publish(1+id, notify, strings.Repeat("x", c.size))
				}
				for range c.count {
					same(t, "size", len(st.take(1)[0].Payload), c.size)
				}
				same(t, "went up before SUBACK", strings.Contains(p.come(), "P1:up"), true)
				same(t, "not ready yet", st.s.State().Subscribed, false)
				p.send(&packets.Suback{PacketID: 1<<16 - 1, Reasons: []byte(strings.Repeat("\x01", 13)), Properties: &packets.Properties{}})
				synctest.Wait()
				same(t, "ready", st.s.State().Subscribed, true)
				same(t, "bounces", st.log.count("connection lost"), 1)
			})
		})
	}
}

// TestSlowHandshake: each step on the way has the whole time.
func TestSlowHandshake(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.call()
		time.Sleep(50 * time.Second)
		p.connack(0, false)
		time.Sleep(20 * time.Second)
		p.next() // SUBSCRIBE; PINGREQ comes, too
		p.raw([]byte{0xD0, 0})
		time.Sleep(20 * time.Second)
		p.send(&packets.Suback{PacketID: 1<<16 - 1, Reasons: []byte(strings.Repeat("\x01", 13)), Properties: &packets.Properties{}})
		synctest.Wait()
		same(t, "ready", st.s.State().Subscribed, true)
	})
}

// TestTrickle: a server that sends a little now and then is not waited for.
func TestTrickle(t *testing.T) {
	trickle := func(p *peer, every time.Duration, bytes ...byte) {
		for {
			for _, b := range bytes {
				time.Sleep(every)
				if _, err := p.c.Write([]byte{b}); err != nil {
					return
				}
			}
		}
	}
	for name, c := range map[string]struct {
		until func(*stage) *peer
		sends []byte
		most  time.Duration
		error string
	}{
		"CONNACK": {func(st *stage) *peer { return st.call() }, append([]byte{0x20, 0x7F}, make([]byte, 127)...), 11 * time.Minute,
			"cannot connect: mqtt://broker: a handshake that takes longer than 10m0s"},
		"SUBACK": {func(st *stage) *peer { p := st.call(); p.connack(0, false); p.next(); return p }, []byte{0xD0, 0}, 2 * time.Minute,
			"connection lost: subscribe: no SUBACK within 1m0s"},
		"PUBACK": {func(st *stage) *peer { p := st.accept(false); st.send(event("1")); return p }, []byte{0xD0, 0}, time.Minute,
			"connection lost: no PUBACK for 30s with messages in flight"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, nil, func(st *stage) {
				p := c.until(st)
				start := time.Now()
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					trickle(p, 5*time.Second, c.sends...)
				}()
				p.closed()
				<-ended
				synctest.Wait()
				same(t, "error", st.s.State().LastError, c.error)
				if d := time.Since(start); d > c.most {
					t.Errorf("waited %v", d)
				}
			})
		})
	}
}

// TestServerKeepAliveIsNoLimit: what the broker says may shorten the longest silence and never lengthens it.
func TestServerKeepAliveIsNoLimit(t *testing.T) {
	for server, most := range map[uint16]time.Duration{0: 50 * time.Second, 3: 10 * time.Second, 600: 50 * time.Second, 65535: 50 * time.Second} {
		t.Run(fmt.Sprint(server), func(t *testing.T) {
			play(t, func(c *Config) { c.KeepAlive = 20 * time.Second }, func(st *stage) {
				p := st.accept(false, func(p *packets.Properties) { p.ServerKeepAlive = &server })
				start := time.Now()
				p.closed()
				if d := time.Since(start); d > most {
					t.Errorf("a dead link was noticed after %v", d)
				}
			})
		})
	}
}

// TestSessionKeptForLess: what the broker shortens is said once.
func TestSessionKeptForLess(t *testing.T) {
	expiry := func(n uint32) func(*packets.Properties) {
		return func(p *packets.Properties) { p.SessionExpiryInterval = &n }
	}
	play(t, nil, func(st *stage) {
		st.accept(false, expiry(60)).cut()
		p := st.accept(true, expiry(60))
		same(t, "warnings", st.log.count("WARN the session is kept for less than asked"), 1)
		p.cut()
		st.accept(true, expiry(30)).cut()
		same(t, "another", st.log.count("WARN the session is kept for less than asked"), 2)
	})
	play(t, nil, func(st *stage) {
		st.accept(false, expiry(1<<32-1))
		same(t, "longer", st.log.count("WARN"), 0)
	})
	play(t, nil, func(st *stage) {
		st.accept(false, expiry(0))
		same(t, "status", strings.HasPrefix(st.s.State().LastError, "the broker keeps the session for 0s, mqtt.session_expiry asks for 168h0m0s"), true)
	})
}

// TestSessionLost: the next connection says what became of the session, and how long nobody was there.
func TestSessionLost(t *testing.T) {
	play(t, nil, func(st *stage) {
		st.accept(false).cut()
		same(t, "at first", st.log.count("lost the session"), 0)
		st.accept(true).cut()
		same(t, "kept", st.log.count("lost the session"), 0)
		(<-st.calls).Close()
		time.Sleep(time.Minute)
		(<-st.calls).Close()
		st.accept(false)
		same(t, "lost", st.log.count("WARN the broker has lost the session"), 1)
		same(t, "how long", st.log.count("away=1m"), 1)
	})
	for name, c := range map[string]struct {
		memory  *notes
		present bool
		want    int
	}{
		"while no bridge ran":      {&notes{filters: topics(thing, false)}, false, 1},
		"kept while no bridge ran": {&notes{filters: topics(thing, false)}, true, 0},
		"the first start":          {&notes{}, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(cfg *Config) { cfg.Filters = c.memory }, func(st *stage) {
				st.accept(c.present).cut()
				st.accept(true)
				same(t, "said", st.log.count("WARN the broker has no session of this client id"), c.want)
			})
		})
	}
}

// TestMaximumQoS0: a broker that acknowledges nothing gets nothing.
func TestMaximumQoS0(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false, func(p *packets.Properties) { p.MaximumQOS = new(byte) })
		done := st.send(event("1"), response("a"))
		same(t, "sent", p.come(), "")
		same(t, "outcomes", fmt.Sprint(done), "[[] []]")
		state := st.s.State()
		same(t, "subscribed", state.Subscribed, true)
		same(t, "why", strings.Contains(state.Held, "Maximum QoS is 0") && strings.Contains(state.Held, "mqtt.allow_qos_0"), true)
		same(t, "warnings", st.log.count("WARN nothing is sent"), 1)
		var asked error
		if err := st.s.Ask(context.Background(), event("q"), func(err error) { asked = err }); err != nil {
			t.Fatal(err)
		}
		same(t, "a question", errors.Is(asked, bridge.ErrNotConnected), true)
		p.publish(7, notify, "down")
		same(t, "comes down", string(st.take(1)[0].Payload), "down")
		p.cut()
		p = st.accept(true) // the broker's administrator has mended it
		same(t, "sent", p.come(), "P1:a P2:1")
		same(t, "held", st.s.State().Held, "")
	})
}

// TestAcknowledgementSwallowed: a steady trickle downwards is no excuse for a broker that answers pings and acknowledges
// nothing.
func TestAcknowledgementSwallowed(t *testing.T) {
	play(t, func(c *Config) { c.AckTimeout, c.KeepAlive = 10*time.Second, time.Hour }, func(st *stage) {
		p := st.accept(false)
		st.send(event("1"))
		same(t, "sent", p.come(), "P1:1")
		over := make(chan struct{})
		defer close(over)
		go func() { // what the cloud sends meanwhile; the broker answers pings
			for {
				select {
				case <-over:
					return
				case <-time.After(100 * time.Millisecond):
				}
				if _, err := p.c.Write([]byte{0xD0, 0}); err != nil {
					return
				}
			}
		}()
		start := time.Now()
		p.closed()
		if d := time.Since(start); d > 25*time.Second {
			t.Errorf("noticed after %v", d)
		}
	})
}
