package cloud

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

func TestResendWithSession(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		done := st.send(events(1, 5)...)
		same(t, "first", p.come(), "P1:1 P2:2 P3:3 P4:4 P5:5")
		p.puback(1, 0)
		p.puback(3, 0x10)
		p.cut()
		done = append(done, st.send(event("6"))...)
		p = st.accept(true)
		same(t, "again", p.come(), "D2:2 D4:4 D5:5 P6:6")
		for _, id := range []uint16{2, 4, 5, 6} {
			p.puback(id, 0)
		}
		synctest.Wait()
		same(t, "outcomes", fmt.Sprint(done), "[[<nil>] [<nil>] [<nil>] [<nil>] [<nil>] [<nil>]]")
		same(t, "in flight", st.s.InFlight(), 0)
	})
}

func TestResendWithoutSession(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		st.send(events(1, 3)...)
		p.come()
		p.cut()
		p = st.accept(false)
		same(t, "again", p.come(), "P4:1 P5:2 P6:3")
		p.puback(1, 0) // of the session that is gone
		synctest.Wait()
		same(t, "in flight", st.s.InFlight(), 3)
	})
}

// TestResendWithinReceiveMaximum covers a smaller one on the second connection, and on a third with the
// first resend half done.
func TestResendWithinReceiveMaximum(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		st.send(events(1, 5)...)
		same(t, "first", p.come(), "P1:1 P2:2 P3:3 P4:4 P5:5")
		p.cut()
		p = st.accept(true, receiveMaximum(2))
		same(t, "two", p.come(), "D1:1 D2:2")
		p.puback(1, 0)
		same(t, "one more", p.come(), "D3:3")
		p.cut()
		p = st.accept(true, receiveMaximum(3))
		same(t, "three", p.come(), "D2:2 D3:3 D4:4")
		p.puback(2, 0)
		p.puback(3, 0)
		p.puback(4, 0)
		same(t, "the last", p.come(), "D5:5")
		st.send(event("6"))
		same(t, "a new one", p.come(), "P6:6")
	})
}

// TestPubackBeforeResend: the broker may have kept its acknowledgements, too.
func TestPubackBeforeResend(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		done := st.send(events(1, 3)...)
		p.come()
		p.cut()
		p = st.accept(true, receiveMaximum(1))
		same(t, "one", p.come(), "D1:1")
		p.puback(2, 0)
		synctest.Wait()
		same(t, "outcome", done[1].String(), "[<nil>]")
		p.puback(1, 0)
		same(t, "what is left", p.come(), "D3:3")
	})
}

func TestResendKeepsOrderAcrossKinds(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		st.send(event("1"), event("2"))
		p.come()
		st.send(response("a"))
		p.come()
		p.cut()
		st.send(response("b"))
		p = st.accept(true)
		// What is sent again keeps its order; a new control message does not wait for telemetry.
		same(t, "again", p.come(), "D1:1 D2:2 D3:a P4:b")
	})
}

func TestReceiveMaximum(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false, receiveMaximum(3))
		st.send(events(1, 7)...)
		same(t, "three", p.come(), "P1:1 P2:2 P3:3")
		p.puback(2, 0) // out of order, which a broker should not
		same(t, "one more", p.come(), "P4:4")
		p.puback(1, 0)
		p.puback(3, 0)
		same(t, "two more", p.come(), "P5:5 P6:6")
	})
}

func TestControlBeforeTelemetry(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false, receiveMaximum(1))
		st.send(event("0"))
		same(t, "alone", p.come(), "P1:0")
		st.send(event("1"), event("2"), response("a"), response("b"))
		p.puback(1, 0)
		same(t, "first", p.come(), "P2:a")
		p.puback(2, 0)
		same(t, "control", p.come(), "P3:b")
		p.puback(3, 0)
		same(t, "telemetry", p.come(), "P4:1")
	})
}

func TestPubackCodes(t *testing.T) {
	for code, want := range map[byte]string{
		0x00: "<nil>", 0x10: "<nil>",
		0x90: `topic "$emqx/things/pump-07/events/e": the broker refused it: 0x90 topic name invalid: the broker must take topics that begin with $emqx/`,
		0x95: `topic "$emqx/things/pump-07/events/e": the broker refused it: 0x95 packet too large: raise the broker's limit of a packet, or lower limits.payload`,
		0x99: `topic "$emqx/things/pump-07/events/e": the broker refused it: 0x99 payload format invalid`,
		0x80: "", 0x83: "", 0x87: "", 0x91: "", 0x97: "", 0xFF: "", // there is nothing to judge it by
	} {
		t.Run(fmt.Sprintf("%#02x", code), func(t *testing.T) {
			play(t, nil, func(st *stage) {
				p := st.accept(false)
				done := st.send(event("1"))[0]
				same(t, "sent", p.come(), "P1:1")
				p.puback(1, code)
				synctest.Wait()
				same(t, "outcome", done.String(), "["+want+"]")
				if want == "" {
					same(t, "in flight", st.s.InFlight(), 1)
					time.Sleep(time.Second)
					same(t, "retried", p.come(), "P2:1")
					p.puback(2, code)
					synctest.Wait()
					same(t, "warnings", st.log.count("WARN messages wait"), 1)
					same(t, "standing", len(st.s.State().Standing), 1)
					time.Sleep(time.Second)
					same(t, "retried again", p.come(), "P3:1")
					p.puback(3, 0)
					synctest.Wait()
					same(t, "taken", done.String(), "[<nil>]")
					same(t, "it goes on", st.log.count("INFO messages go on"), 1)
					same(t, "standing", len(st.s.State().Standing), 0)
					same(t, "last error", st.s.State().LastError, "")
				} else if code >= 0x80 {
					same(t, "code", done.errs[0].(*bridge.Rejection).Code, bridge.CodeRefused)
				}
			})
		})
	}
}

// TestQuotaEpisode: refused ones go again in order, before anything newer, first alone.
func TestQuotaEpisode(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false, receiveMaximum(4))
		done := st.send(events(1, 9)...)
		same(t, "first", p.come(), "P1:1 P2:2 P3:3 P4:4")
		p.puback(1, 0)
		same(t, "one more", p.come(), "P5:5")
		p.puback(2, 0x97)
		same(t, "nothing new", p.come(), "")
		st.send(response("a"))
		same(t, "control goes on", p.come(), "P6:a")
		p.puback(6, 0)
		p.puback(3, 0)
		p.puback(4, 0x97)
		p.puback(5, 0)
		same(t, "a pause", p.come(), "")
		time.Sleep(time.Second)
		same(t, "one", p.come(), "P7:2")
		p.puback(7, 0x97)
		time.Sleep(time.Second)
		same(t, "one again", p.come(), "P8:2")
		p.puback(8, 0)
		time.Sleep(2 * time.Second) // not as fast as before
		same(t, "two", p.come(), "P9:4 P10:6")
		p.puback(9, 0)
		time.Sleep(2 * time.Second)
		same(t, "up to four", p.come(), "P11:7 P12:8 P13:9")
		for id := range uint16(4) {
			p.puback(10+id, 0)
		}
		synctest.Wait()
		same(t, "outcomes", fmt.Sprint(done), "[[<nil>] [<nil>] [<nil>] [<nil>] [<nil>] [<nil>] [<nil>] [<nil>] [<nil>]]")
		same(t, "warnings", st.log.count("WARN"), 1)
	})
}

func TestQuotaEpisodeAcrossConnections(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		st.send(events(1, 3)...)
		p.come()
		p.puback(1, 0x97)
		p.puback(3, 0)
		synctest.Wait()
		p.cut()
		p = st.accept(true)
		time.Sleep(time.Second)
		same(t, "alone", p.come(), "P4:1")
		p.puback(4, 0)
		same(t, "next", p.come(), "D2:2")
	})
}

func TestMaximumPacketSize(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false, func(p *packets.Properties) { n := uint32(1000); p.MaximumPacketSize = &n })
		const topic = "$emqx/things/pump-07/events/e"
		// First byte, two bytes of length, the topic with its length, identifier, no properties.
		fits := strings.Repeat("x", 1000-1-2-2-len(topic)-2-1)
		done := st.send(event(fits+"x"), event(fits))
		same(t, "sent", p.come(), "P1:"+fits)
		same(t, "outcome", done[0].String(), `[topic "`+topic+`": the packet has 1001 bytes, the broker takes at most 1000]`)
		same(t, "code", done[0].errs[0].(*bridge.Rejection).Code, bridge.CodeTooLarge)
	})
}

func TestExpiry(t *testing.T) {
	play(t, nil, func(st *stage) {
		question := func(payload string, age time.Duration) bridge.Message {
			m := bridge.Message{Address: mapping.Address{Thing: thing, Channel: mapping.JobsGet}, Payload: []byte(payload), Received: time.Now().Add(-age)}
			m.Expires = m.Received.Add(30 * time.Second)
			return m
		}
		done := st.send(question("old", 25*time.Second), question("young", 0), response("r"))
		time.Sleep(9 * time.Second)
		p := st.accept(false)
		same(t, "sent", p.come(), "P1:young P2:r")
		same(t, "outcome", done[0].String(), `[topic "$emqx/things/pump-07/jobs/get": older than 30s, not sent any more]`)
		same(t, "code", done[0].errs[0].(*bridge.Rejection).Code, bridge.CodeExpired)
	})
}

// TestEventsExpire: what has been handed over meets its end like what still waits in the queue.
func TestEventsExpire(t *testing.T) {
	play(t, nil, func(st *stage) {
		old, young := event("old"), event("young")
		old.Received, young.Received = time.Now(), time.Now()
		old.Expires, young.Expires = old.Received.Add(4*time.Second), young.Received.Add(time.Hour)
		done := st.send(old, young, event("ageless"))
		time.Sleep(9 * time.Second)
		p := st.accept(false)
		same(t, "sent", p.come(), "P1:young P2:ageless")
		same(t, "code", done[0].errs[0].(*bridge.Rejection).Code, bridge.CodeExpired)
	})
}

func TestAtMostOnceBroker(t *testing.T) {
	play(t, func(c *Config) { c.AllowQoS0 = true }, func(st *stage) {
		p := st.accept(false, func(p *packets.Properties) { p.MaximumQOS = new(byte) })
		done := st.send(events(1, 3)...)
		same(t, "sent", p.come(), "P0:1 P0:2 P0:3")
		same(t, "outcomes", fmt.Sprint(done), "[[<nil>] [<nil>] [<nil>]]")
		same(t, "warnings", st.log.count("WARN no delivery guarantee"), 1)
	})
}

func TestPublishRate(t *testing.T) {
	play(t, func(c *Config) { c.MaxPublishRate = 10 }, func(st *stage) {
		p := st.accept(false)
		start := time.Now()
		st.send(events(1, 21)...)
		for id := range uint16(21) {
			p.next()
			p.puback(1+id, 0)
		}
		if d := time.Since(start); d < 1900*time.Millisecond || d > 2100*time.Millisecond {
			t.Errorf("21 messages at 10 a second took %v", d)
		}
	})
}
