package cloud

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/eclipse/paho.golang/packets"
)

// What a broker can do that means harm: whatever it sends, the session takes nothing for a message of its
// Thing that is none, and works again on the next connection.

// survives checks that nothing was taken for a message, and that the session is well, on this connection
// or the next.
func (st *stage) survives(p *peer) {
	st.t.Helper()
	synctest.Wait()
	for st.s.waiting() > 0 {
		d := st.take(1)[0]
		if d.Err == nil {
			st.t.Errorf("taken for a message: %+v", d.Message)
		}
		d.Settle()
	}
	if strings.HasSuffix(p.come(), "closed") {
		p = st.accept(true)
	}
	p.publish(9, notify, "well")
	d := st.take(1)[0]
	d.Settle()
	same(st.t, "payload", string(d.Payload), "well")
	if got := p.come(); !strings.HasSuffix(got, "A9") {
		st.t.Errorf("acknowledged %q", got)
	}
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	same(st.t, "connected", st.s.link != nil, true)
}

// publishOf spells a PUBLISH of QoS 1 whose properties and topic are the caller's.
func publishOf(first byte, topic string, properties []byte, payload string) []byte {
	body := appendString(nil, topic)
	body = append(body, 0, 5)
	body = append(appendVarint(body, len(properties)), properties...)
	body = append(body, payload...)
	return append(appendVarint([]byte{first}, len(body)), body...)
}

func TestHostilePackets(t *testing.T) {
	alias := []byte{0x23, 0, 1}
	for name, b := range map[string][]byte{
		"acknowledges what was never sent":  {0x40, 2, 0, 77, 0x40, 2, 0xFF, 0xFF, 0x40, 4, 0, 1, 0x87, 0},
		"receives what was never sent":      {0x50, 2, 0, 77, 0x70, 2, 0, 77, 0x62, 2, 0, 77},
		"answers subscriptions never made":  {0x90, 4, 0, 77, 0, 1, 0xB0, 4, 0, 77, 0, 0},
		"answers a ping never sent":         {0xD0, 0, 0xD0, 0},
		"sends what clients send":           {0xC0, 0},
		"connects":                          append([]byte{0x10, 13, 0, 4}, "MQTT\x05\x02\x00\x3c\x00\x00\x00"...),
		"subscribes":                        append([]byte{0x82, 7, 0, 1, 0, 0, 1}, "#\x01"...),
		"reserved type":                     {0x00, 0},
		"reserved flags":                    {0x4F, 2, 0, 1},
		"quality 3":                         publishOf(0x36, notify, nil, "x"),
		"empty topic":                       publishOf(0x32, "", nil, "x"),
		"alias that was never set":          publishOf(0x32, "", alias, "x"),
		"alias of another's topic":          append(publishOf(0x32, "$emqx/things/other/jobs/notify", alias, "x"), publishOf(0x32, "", alias, "x")...),
		"wildcards in a topic":              publishOf(0x32, "$emqx/things/pump-07/#", nil, "x"),
		"wildcard for the Thing":            publishOf(0x32, "$emqx/things/+/jobs/notify", nil, "x"),
		"NUL in a topic":                    publishOf(0x32, "$emqx/things/pump-07\x00/jobs/notify", nil, "x"),
		"no UTF-8 in a topic":               publishOf(0x32, "$emqx/things/pump-07/jobs/\xff", nil, "x"),
		"path in a topic":                   publishOf(0x32, "$emqx/things/pump-07/../other/jobs/notify", nil, "x"),
		"dots in a topic":                   publishOf(0x32, "$emqx/things/pump-07/jobs.notify", nil, "x"),
		"subject in a topic":                publishOf(0x32, "fleets.up.other.events.x", nil, "x"),
		"other Thing's command":             publishOf(0x32, "$emqx/commands/things/other/executions/e/request", nil, "{}"),
		"system topic":                      publishOf(0x32, "$SYS/brokers", nil, "x"),
		"upward topic":                      publishOf(0x32, "$emqx/things/pump-07/events/x", nil, "x"),
		"longest topic":                     publishOf(0x32, strings.Repeat("x/", 32767), nil, "x"),
		"longest Thing":                     publishOf(0x32, "$emqx/things/"+strings.Repeat("x", 65000)+"/jobs/notify", nil, "x"),
		"properties longer than the packet": {0x32, 8, 0, 1, 'a', 0, 1, 0x7F, 0x26, 0},
		"a property twice":                  publishOf(0x32, notify+"/x", []byte{1, 0, 1, 1}, "x"),
		"an unknown property":               publishOf(0x32, notify+"/x", []byte{0x7E, 0}, "x"),
		"half a packet, then the end":       {0x32, 100, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, nil, func(st *stage) {
				p := st.accept(false)
				p.raw(b)
				if strings.HasPrefix(name, "half") {
					p.cut()
				}
				st.survives(p)
			})
		})
	}
}

// TestTopicAliases: the session announces no aliases. What a broker that uses them all the same means is
// understood; what can't be is refused with 0x94, and never acknowledged.
func TestTopicAliases(t *testing.T) {
	with := func(n uint16) func(*packets.Publish) {
		return func(m *packets.Publish) { m.Properties.TopicAlias = &n }
	}
	delta := "$emqx/things/pump-07/shadow/update/delta"
	t.Run("understood", func(t *testing.T) {
		play(t, nil, func(st *stage) {
			p := st.accept(false)
			p.publish(1, notify, "a", with(1))
			p.publish(2, "", "b", with(1))
			p.publish(3, delta, "c", with(65535))
			p.publish(4, "", "d", with(65535))
			p.publish(5, delta, "e", with(1)) // the alias is another's now
			p.publish(6, "", "f", with(1))
			got := ""
			for _, d := range st.take(6) {
				got += string(d.Payload) + ":" + string(d.Address.Channel) + " "
				d.Settle()
			}
			same(t, "delivered", got, "a:jobs.notify b:jobs.notify c:shadow.delta d:shadow.delta e:shadow.delta f:shadow.delta ")
			same(t, "acknowledged", p.come(), "A1 A2 A3 A4 A5 A6")
			same(t, "warnings", st.log.count("WARN"), 0)
		})
	})
	for name, publish := range map[string]func(*peer){
		"never set":                    func(p *peer) { p.publish(7, "", "x", with(2)) },
		"never set, QoS 0":             func(p *peer) { p.publish(0, "", "x", with(2), func(m *packets.Publish) { m.QoS = 0 }) },
		"alias 0":                      func(p *peer) { p.publish(7, notify, "x", with(0)) },
		"alias 0 for a topic":          func(p *peer) { p.publish(7, "", "x", with(0)) },
		"set on the connection before": func(p *peer) { p.publish(7, "", "x", with(1)) },
		"more than there is room for": func(p *peer) {
			for i := range uint16(maxAliases/maxTopic + 1) {
				p.publish(100+i, strings.Repeat("t", maxTopic), "x", with(100+i))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, nil, func(st *stage) {
				p := st.accept(false)
				p.publish(1, notify, "a", with(1))
				st.take(1)[0].Settle()
				same(t, "acknowledged", p.come(), "A1")
				p.cut()
				p = st.accept(true)
				publish(p)
				said := ""
				for _, packet := range p.closed() {
					said += spell(packet) + " "
				}
				same(t, "said", said, "DISCONNECT(0x94) ")
				synctest.Wait()
				if got := st.s.State().LastError; !strings.Contains(got, "topic alias") {
					t.Errorf("LastError %q", got)
				}
				for range st.s.waiting() {
					if d := st.take(1)[0]; d.Err == nil {
						t.Errorf("delivered %q", d.Payload)
					}
				}
			})
		})
	}
}

// TestHostileNoise: bytes without sense.
func TestHostileNoise(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 11))
	types := []byte{0x20, 0x30, 0x32, 0x34, 0x3A, 0x40, 0x50, 0x62, 0x70, 0x90, 0xB0, 0xD0, 0xE0, 0xF0}
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		for range 300 {
			n := r.IntN(64)
			b := append(appendVarint([]byte{types[r.IntN(len(types))]}, n), make([]byte, n)...)
			for i := len(b) - n; i < len(b); i++ {
				b[i] = byte(r.Uint32())
			}
			p.raw(b)
			synctest.Wait()
			for st.s.waiting() > 0 {
				d := st.take(1)[0]
				if d.Err == nil {
					t.Fatalf("taken for a message: %+v", d.Message)
				}
				d.Settle()
			}
			if strings.HasSuffix(p.come(), "closed") {
				p = st.accept(r.IntN(2) == 0)
			}
		}
		st.survives(p)
	})
}

// TestHostileQuestions: a broker that asks for answers and never reads them costs a bounded amount of memory.
func TestHostileQuestions(t *testing.T) {
	a := newAcks(func() {})
	for i := range 1 << 20 {
		a.answer(pubcompByte, uint16(i))
	}
	if len(a.direct) > maxDirect {
		t.Errorf("%d bytes wait", len(a.direct))
	}
	if got := a.appendReady(nil); !bytes.HasPrefix(got, []byte{pubcompByte, 2, 0, 0}) {
		t.Errorf("% x", got[:8])
	}
	a.answer(pubcompByte, 7)
	if got := a.appendReady(nil); !bytes.Equal(got, []byte{pubcompByte, 2, 0, 7}) {
		t.Errorf("% x", got)
	}
}

// TestOddSubackCodes: what is none of the three codes that grant is a refusal, and said with its code.
func TestOddSubackCodes(t *testing.T) {
	for _, code := range []byte{0x03, 0x10, 0x7F, 0x80, 0xFF} {
		t.Run(fmt.Sprintf("0x%02X", code), func(t *testing.T) {
			play(t, nil, func(st *stage) {
				p := st.call()
				p.connack(0, false)
				p.suback(map[string]byte{notify: code})
				synctest.Wait()
				state := st.s.State()
				same(t, "subscribed", state.Subscribed, false)
				if len(state.Refused) != 1 || !strings.HasPrefix(state.Refused[0], fmt.Sprintf("%s: 0x%02X ", notify, code)) {
					t.Error(state.Refused)
				}
			})
		})
	}
}
