package cloud

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

const notify = "$emqx/things/pump-07/jobs/notify"

// take reads n deliveries that must be there.
func (st *stage) take(n int) (out []bridge.Delivery) {
	st.t.Helper()
	for range n {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		out = append(out, one(st.t, ctx, st.s))
		cancel()
	}
	return out
}

// one takes the next delivery.
func one(t testing.TB, ctx context.Context, s *Session) bridge.Delivery {
	t.Helper()
	taken := s.inbox.take(ctx, 1)
	if len(taken) == 0 {
		t.Fatal("no delivery")
	}
	return taken[0]
}

// waiting is how many deliveries nobody has taken.
func (s *Session) waiting() int {
	s.inbox.mu.Lock()
	defer s.inbox.mu.Unlock()
	return len(s.inbox.items[s.inbox.first:])
}

func payloads(ds []bridge.Delivery) (s string) {
	for _, d := range ds {
		s += string(d.Payload)
	}
	return s
}

func TestDelivery(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		p.publish(7, "$emqx/commands/things/pump-07/executions/x.1/request", `{"action":"purge"}`, func(m *packets.Publish) {
			m.Retain = true
			m.Properties.User = []packets.User{{Key: "traceparent", Value: "00-1"}, {Key: "other", Value: "x"}, {Key: "tracestate", Value: "a=1"}}
		})
		d := st.take(1)[0]
		want := bridge.Message{
			Address: mapping.Address{Thing: thing, Channel: mapping.CommandRequest, ID: "x.1"}, Received: time.Now(),
			Origin: "$emqx/commands/things/pump-07/executions/x.1/request", Retained: true, Trace: bridge.Trace{Parent: "00-1", State: "a=1"},
		}
		same(t, "payload", string(d.Payload), `{"action":"purge"}`)
		d.Payload = nil
		same(t, "message", fmt.Sprintf("%+v", d.Message), fmt.Sprintf("%+v", want))
		same(t, "error", d.Err, nil)
		same(t, "before settle", p.come(), "")
		d.Settle()
		same(t, "after settle", p.come(), "A7")
	})
}

func TestStrayTopics(t *testing.T) {
	for _, c := range []struct {
		topic, stray string
		echo         bool
	}{
		{"$emqx/things/pump-07/jobs/get", "pump-07.jobs.get", true},
		{"$emqx/things/pump-08/shadow/update/accepted", "pump-07.=24emqx.things.pump-08.shadow.update.accepted", false},
		{"$emqx/things/pump-08/jobs/get", "pump-07.=24emqx.things.pump-08.jobs.get", false},
		{"$emqx/things/pump-08/jobs/notify", "pump-07.=24emqx.things.pump-08.jobs.notify", false},
		{"$emqx/things/pump-07/novel", "pump-07.novel", false},
		{"else/where", "pump-07.else.where", false},
	} {
		t.Run(c.topic, func(t *testing.T) {
			play(t, nil, func(st *stage) {
				p := st.accept(false)
				p.publish(7, c.topic, "{}")
				d := st.take(1)[0]
				same(t, "echo", errors.Is(d.Err, mapping.ErrOwnEcho), c.echo)
				if r := (*bridge.Rejection)(nil); errors.As(d.Err, &r) == c.echo || r != nil && r.Code != bridge.CodeUnexpected {
					t.Errorf("error %v", d.Err)
				}
				same(t, "stray", d.Stray, c.stray)
				d.Settle()
				same(t, "acknowledged", p.come(), "A7")
			})
		})
	}
}

// TestAcknowledgeInOrder: what is settled is acknowledged, and nothing that comes behind it.
func TestAcknowledgeInOrder(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		for id := range uint16(6) {
			p.publish(10+id, notify, fmt.Sprint(id))
		}
		ds := st.take(6)
		same(t, "nothing is settled", p.come(), "")
		ds[0].Settle()
		same(t, "the first", p.come(), "A10")
		for _, d := range ds[1:4] {
			d.Settle()
		}
		same(t, "some", p.come(), "A11 A12 A13")
		p.publish(16, notify, "6")
		ds = append(ds, st.take(1)...)
		for _, d := range ds[4:] {
			d.Settle()
		}
		same(t, "the rest", p.come(), "A14 A15 A16")
	})
}

func TestSettleAfterLoss(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		p.publish(7, notify, "a")
		old := st.take(1)[0]
		p.cut()
		p = st.accept(true)
		p.publish(7, notify, "a", dup)
		again := st.take(1)[0]
		old.Settle()
		same(t, "of the old connection", p.come(), "")
		again.Settle()
		same(t, "of this one", p.come(), "A7")
	})
}

// TestRedelivery: some brokers send again on the same connection what is not acknowledged in time.
func TestRedelivery(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		p.publish(7, notify, "a")
		first := st.take(1)[0]
		p.publish(7, notify, "a", dup)
		synctest.Wait()
		same(t, "delivered again", st.s.waiting(), 0)
		first.Settle()
		same(t, "acknowledged", p.come(), "A7")

		// The next crosses our acknowledgement; then the identifier is used for another message, which
		// the settlement of the copy must not acknowledge.
		p.publish(7, notify, "a", dup)
		p.publish(7, notify, "b")
		ds := st.take(2)
		same(t, "payloads", payloads(ds), "ab")
		ds[0].Settle()
		same(t, "the copy is settled", p.come(), "")
		ds[1].Settle()
		same(t, "acknowledged", p.come(), "A7")
	})
}

func TestExactlyOnceMessages(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		p.publish(7, notify, "a", func(m *packets.Publish) { m.QoS = 2 })
		st.take(1)[0].Settle()
		same(t, "first answer", p.come(), "PUBREC")
		p.send(&packets.Pubrel{PacketID: 7, Properties: &packets.Properties{}})
		same(t, "second answer", p.come(), "PUBCOMP")
	})
}

func TestAtMostOnceMessages(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		p.publish(0, notify, "a", func(m *packets.Publish) { m.QoS = 0 })
		st.take(1)[0].Settle()
		same(t, "answer", p.come(), "")
	})
}

// tight leaves room for four small messages, and some more that are within a Thing's own share.
func tight(c *Config) {
	c.ReceiveMaximum, c.Memory = 4, NewBudget(1)
}

// TestOverrun: the broker sends more than there is room for, nobody takes it for a long time, and the
// connection stays: acknowledgements of our own messages stand still, too.
func TestOverrun(t *testing.T) {
	const many = 2 * ownShare / overhead
	play(t, tight, func(st *stage) {
		p := st.accept(false)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for id := range uint16(many) {
				p.publish(id+1, notify, fmt.Sprint(id))
			}
			p.puback(1, 0)
		}()
		done := st.send(event("1"))[0]
		for range 10 {
			time.Sleep(time.Minute) // the broker can't answer a PINGREQ now
		}
		select {
		case <-sent:
			t.Error("the reader did not block")
		default:
		}
		same(t, "connected", st.s.State().Connected, true)
		for range many {
			st.take(1)[0].Settle()
		}
		<-sent
		synctest.Wait()
		same(t, "acknowledged", done.String(), "[<nil>]")
		acked := 0
		for range 10 {
			for packet := range drain(p.in) {
				if packet.Type == packets.PUBACK {
					acked++
				}
				if packet.Type == packets.PINGREQ {
					p.raw([]byte{0xD0, 0})
				}
			}
			time.Sleep(time.Second)
		}
		same(t, "acknowledgements", acked, many)
		same(t, "connected", st.s.State().Connected, true)
		same(t, "warnings", st.log.count("WARN"), 0)
	})
}

// TestStopTaking: with nobody to take deliveries, and more of them than there is room for, what is in
// flight the other way is still acknowledged. What was let go by comes again to the next session.
func TestStopTaking(t *testing.T) {
	play(t, tight, func(st *stage) {
		p := st.accept(false)
		done := st.send(event("1"))[0]
		ours := p.next().Content.(*packets.Publish).PacketID
		go func() {
			for id := range uint16(100) {
				p.publish(id+1, notify, "a")
			}
			p.puback(ours, 0)
		}()
		synctest.Wait()
		same(t, "before", done.String(), "[]")
		st.s.StopTaking()
		synctest.Wait()
		same(t, "acknowledged", done.String(), "[<nil>]")
		for packet := range drain(p.in) {
			if packet.Type == packets.PUBACK {
				t.Errorf("acknowledged what nobody took: %s", spell(packet))
			}
		}
	})
}

func drain(in chan *packets.ControlPacket) func(func(*packets.ControlPacket) bool) {
	return func(yield func(*packets.ControlPacket) bool) {
		for {
			select {
			case packet, ok := <-in:
				if !ok || !yield(packet) {
					return
				}
			default:
				return
			}
		}
	}
}

// TestStalledReaderAcrossConnections: nobody takes deliveries, connections come and go, and still our
// own messages are acknowledged; otherwise a full disk could never be emptied.
func TestStalledReaderAcrossConnections(t *testing.T) {
	play(t, func(c *Config) { c.ReceiveMaximum = 4 }, func(st *stage) {
		for i := range 5 {
			p := st.accept(i > 0)
			for id := range uint16(4) {
				p.publish(id+1, notify, string('a'+rune(id)), func(m *packets.Publish) { m.Duplicate = i > 0 })
			}
			done := st.send(event("1"))[0]
			packet := p.next().Content.(*packets.Publish)
			p.puback(packet.PacketID, 0)
			synctest.Wait()
			same(t, "acknowledged", done.String(), "[<nil>]")
			p.cut()
		}
		p := st.accept(true)
		for id := range uint16(4) {
			p.publish(id+1, notify, string('a'+rune(id)), dup)
		}
		synctest.Wait()
		ds := st.take(4) // of the last connection
		same(t, "payloads", payloads(ds), "abcd")
		same(t, "more", st.s.waiting(), 0)
		for _, d := range ds {
			d.Settle()
		}
		same(t, "acknowledged", p.come(), "A1 A2 A3 A4")
	})
}

// TestSessionLostWithBacklog: what a lost session will not bring again must not be forgotten.
func TestSessionLostWithBacklog(t *testing.T) {
	play(t, func(c *Config) { c.ReceiveMaximum = 2 }, func(st *stage) {
		p := st.accept(false)
		for i, payload := range []string{"a", "b", "c", "d"} {
			p.publish(uint16(i+1), notify, payload)
		}
		p.cut()
		p = st.accept(false)
		p.cut()
		p = st.accept(true)
		same(t, "payloads", payloads(st.take(4)), "abcd")
		p.publish(1, notify, "e")
		st.take(1)[0].Settle()
		same(t, "acknowledged", p.come(), "A1")
	})
}

func TestMalformedPackets(t *testing.T) {
	for _, c := range []struct {
		name, want string
		bytes      []byte
	}{
		{"too large", "packet of 268435455 bytes, at most 1114112 were announced", []byte{0x32, 0xFF, 0xFF, 0xFF, 0x7F}},
		{"length of five bytes", "malformed packet: its length has more than four bytes", []byte{0x32, 0xFF, 0xFF, 0xFF, 0xFF, 1}},
		{"AUTH", "the broker asks for enhanced authentication, which is not supported", []byte{0xF0, 0}},
		{"no identifier", "malformed PUBLISH: QoS 1, packet identifier 0", []byte{0x32, 6, 0, 1, 'a', 0, 0, 0}},
		{"a second CONNACK", "the broker sent a packet that is malformed or out of place", []byte{0x20, 3, 0, 0, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, nil, func(st *stage) {
				p := st.accept(false)
				p.raw(c.bytes)
				p.closed()
				synctest.Wait()
				if got := st.s.State().LastError; got != "connection lost: "+c.want && got != "connection lost: read: "+c.want {
					t.Errorf("LastError %q, want %q", got, c.want)
				}
				st.accept(true)
				same(t, "connected again", st.s.State().Connected, true)
			})
		})
	}
}
