package cloud

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// accuse ends the connection with a DISCONNECT.
func (p *peer) accuse(code byte) {
	p.send(&packets.Disconnect{ReasonCode: code, Properties: &packets.Properties{}})
	p.cut()
}

func dead(o *outcome) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.errs) != 1 {
		return false
	}
	r, is := o.errs[0].(*bridge.Rejection)
	return is && r.Code == bridge.CodeRefused
}

// TestPoison: the message over which the broker closes the connection is found in groups, and is not sent for ever.
func TestPoison(t *testing.T) {
	for _, code := range []byte{0x95, 0x83, 0x87} {
		t.Run(fmt.Sprintf("%#02x", code), func(t *testing.T) {
			play(t, nil, func(st *stage) {
				p := st.accept(false)
				done := st.send(events(1, 5)...)
				same(t, "first", p.come(), "P1:1 P2:2 P3:3 P4:4 P5:5")
				p.accuse(code)
				p = st.accept(true)
				same(t, "the connection is idle first", p.come(), "")
				time.Sleep(time.Second)
				same(t, "one", p.come(), "D1:1")
				p.puback(1, 0)
				same(t, "two", p.come(), "D2:2 D3:3")
				p.accuse(code)
				p = st.accept(true)
				same(t, "half of them", spell(p.next()), "D2:2")
				p.accuse(code)
				p = st.accept(true)
				same(t, "again, after a longer time", spell(p.next()), "D2:2")
				p.accuse(code)
				p = st.accept(true)
				same(t, "another one", p.come(), "D3:3")
				p.puback(3, 0)
				same(t, "the culprit once more", spell(p.next()), "D2:2")
				p.accuse(code)
				synctest.Wait()
				if !dead(done[1]) || !strings.Contains(done[1].String(), fmt.Sprintf("the connection ends over it each time: DISCONNECT 0x%02X", code)) {
					t.Error(done[1])
				}
				p = st.accept(true)
				same(t, "the rest", p.come(), "D4:4")
				p.puback(4, 0)
				same(t, "the rest", p.come(), "D5:5")
				p.puback(5, 0)
				st.send(events(6, 7)...)
				same(t, "as usual", p.come(), "P6:6 P7:7")
			})
		})
	}
}

// script plays a broker that acknowledges all but what its rule says, for so long.
type script struct {
	st *stage
	// rule says what to do about a message: its PUBACK's code, or one of those below.
	rule  func(payload string, conn int) int
	life  time.Duration // of a connection, after which it ends with 0x87; 0: it lives
	taken []string
	conns int
	sent  int
}

const (
	hangUp  = -1
	swallow = -2
	expel   = -3 // DISCONNECT 0x87
)

func (s *script) run(d time.Duration) {
	end := time.Now().Add(d)
	for time.Now().Before(end) {
		s.conns++
		s.connection(end)
	}
}

func (s *script) connection(end time.Time) {
	var p *peer
	select {
	case c := <-s.st.calls:
		p = s.st.answerCall(c)
	case <-time.After(time.Until(end)):
		return
	}
	p.connack(0, s.conns > 1)
	p.suback(nil)
	var over <-chan time.Time
	if s.life > 0 {
		over = time.After(s.life)
	}
	for {
		select {
		case <-time.After(time.Until(end)):
			p.cut()
			return
		case <-over:
			p.accuse(0x87)
			return
		case packet, ok := <-p.in:
			if !ok {
				return
			}
			m, is := packet.Content.(*packets.Publish)
			if packet.Type == packets.PINGREQ {
				p.send(&packets.Pingresp{})
			}
			if !is {
				continue
			}
			s.sent++
			time.Sleep(5 * time.Millisecond)
			switch code := s.rule(string(m.Payload), s.conns); code {
			case hangUp:
				p.cut()
				return
			case expel:
				p.accuse(0x87)
				return
			case swallow:
			default:
				p.puback(m.PacketID, byte(code))
				if code < 0x80 {
					s.taken = append(s.taken, string(m.Payload))
				}
			}
		}
	}
}

// TestWhatIsRefused holds brokers with a fault against what must become of everything else.
func TestWhatIsRefused(t *testing.T) {
	bad := func(code int) func(string, int) int {
		return func(p string, _ int) int {
			if strings.HasPrefix(p, "bad") {
				return code
			}
			return 0
		}
	}
	type try struct {
		name  string
		rule  func(string, int) int
		life  time.Duration
		send  string // event payloads
		least int    // good ones taken, in order
		conns int    // connections at most
		dead  int    // letters
	}
	many := func(before, after int, bad ...string) string {
		return strings.TrimSpace(numbers(1, before) + strings.Join(bad, " ") + " " + numbers(before+1, before+after))
	}
	for _, c := range []try{
		{name: "a code", rule: bad(0x83), send: many(0, 20, "bad"), least: 20, conns: 1, dead: 1},
		{name: "three in a row", rule: bad(0x80), send: many(3, 20, "bad1", "bad2", "bad3"), least: 23, conns: 1, dead: 3},
		{name: "an unknown code", rule: bad(0xC7), send: many(3, 20, "bad"), least: 23, conns: 1, dead: 1},
		{name: "a quota that never passes", rule: bad(0x97), send: many(3, 20, "bad"), least: 23, conns: 1, dead: 1},
		{name: "the last one", rule: bad(0x83), send: many(20, 0, "bad"), least: 20, conns: 1, dead: 0}, // nothing to judge it by
		{name: "hangs up", rule: bad(hangUp), send: many(3, 20, "bad"), least: 23, conns: 9, dead: 1},
		{name: "hangs up over two", rule: bad(hangUp), send: many(3, 100, "bad1", "bad2"), least: 103, conns: 18, dead: 2},
		{name: "expels", rule: bad(expel), send: many(3, 20, "bad"), least: 23, conns: 9, dead: 1},
		{name: "never acknowledges", rule: bad(swallow), send: many(3, 20, "bad"), least: 23, conns: 5, dead: 1},
		{name: "never acknowledges the first", rule: bad(swallow), send: many(0, 20, "bad"), least: 20, conns: 5, dead: 1},
		{name: "a token for two seconds", rule: bad(0), life: 2 * time.Second, send: many(0, 2000), least: 2000, conns: 200, dead: 0},
		{name: "a token, and nothing is acknowledged", rule: func(_ string, conn int) int {
			if conn <= 8 {
				return swallow
			}
			return 0
		}, life: 400 * time.Millisecond, send: many(0, 20), least: 20, conns: 300, dead: 0},
		{name: "nothing passes", rule: func(string, int) int { return 0x87 }, send: many(0, 100), least: 0, conns: 1, dead: 0},
		{name: "a broker that acknowledges nothing", rule: func(string, int) int { return swallow }, send: many(0, 100), least: 0, conns: 40, dead: 0},
		{name: "a broker that hangs up over all", rule: func(string, int) int { return hangUp }, send: many(0, 100), least: 0, conns: 60, dead: 0},
		{name: "a dead link", rule: func(string, int) int { return swallow }, send: "1", least: 0, conns: 40, dead: 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, func(cfg *Config) { cfg.AckTimeout, cfg.KeepAlive = 10*time.Second, 4*time.Second }, func(st *stage) {
				s := &script{st: st, rule: c.rule, life: c.life}
				var done []*outcome
				go func() { // the window is smaller than what there is
					for payload := range strings.FieldsSeq(c.send) {
						done = append(done, st.send(event(payload))...)
					}
				}()
				s.run(5 * time.Minute)
				st.stop()
				<-st.ended
				letters := 0
				for i, o := range done {
					payload := strings.Fields(c.send)[i]
					if dead(o) {
						letters++
						if !strings.HasPrefix(payload, "bad") {
							t.Errorf("%s is a dead letter: %v", payload, o)
						}
					}
				}
				order, seen := 0, map[string]bool{}
				for _, p := range s.taken {
					var n int
					if _, err := fmt.Sscan(p, &n); err != nil || seen[p] {
						continue
					}
					if seen[p] = true; n < order {
						t.Errorf("%d after %d", n, order)
					}
					order = n
				}
				if len(seen) != c.least || letters != c.dead || s.conns > c.conns {
					t.Errorf("%d taken, want %d; %d dead letters, want %d; %d connections, at most %d; %d sent",
						len(seen), c.least, letters, c.dead, s.conns, c.conns, s.sent)
				}
			})
		})
	}
}

// TestOrderWhenARuleIsMended: a rule that refuses a kind is mended between two flights, whichever they are, and nothing
// overtakes what was refused.
func TestOrderWhenARuleIsMended(t *testing.T) {
	const messages = 12 // a flight
	for refused := 1; refused <= 20; refused++ {
		t.Run(fmt.Sprint(refused), func(t *testing.T) {
			play(t, func(cfg *Config) { cfg.KeepAlive = time.Hour }, func(st *stage) {
				p := st.accept(false)
				done := st.send(events(1, messages)...)
				var taken []string
				for flight := 1; len(taken) < messages; flight++ {
					at := p.next()
					time.Sleep(5 * time.Millisecond) // what is on its way comes, too
					for more := true; more; {
						m := at.Content.(*packets.Publish)
						code := byte(0x87)
						if flight > refused {
							code, taken = 0, append(taken, string(m.Payload))
						}
						p.puback(m.PacketID, code)
						select {
						case at = <-p.in:
						default:
							more = false
						}
					}
				}
				same(t, "taken", strings.Join(taken, " "), strings.TrimSpace(numbers(1, messages)))
				synctest.Wait()
				for i, o := range done {
					same(t, fmt.Sprint("message ", i+1), o.String(), "[<nil>]")
				}
			})
		})
	}
}

func numbers(from, to int) (s string) {
	for n := from; n <= to; n++ {
		s += fmt.Sprint(n, " ")
	}
	return s
}

// TestRefusedKindHoldsUpItselfOnly: a refused response holds up no job, no question and no event.
func TestRefusedKindHoldsUpItselfOnly(t *testing.T) {
	play(t, nil, func(st *stage) {
		p := st.accept(false)
		done := st.send(response("a"))
		p.come()
		p.puback(1, 0x83)
		synctest.Wait()
		st.send(update("j"))
		asked := &outcome{}
		question := bridge.Message{Address: mapping.Address{Thing: thing, Channel: mapping.JobsGet}, Payload: []byte("q")}
		if err := st.s.Ask(context.Background(), question, asked.done); err != nil {
			t.Fatal(err)
		}
		st.send(event("e"), report("r"))
		same(t, "the others", p.come(), "P2:j P3:q P4:e P5:r")
		for id := range uint16(4) {
			p.puback(2+id, 0)
		}
		time.Sleep(time.Minute)
		p.come()
		same(t, "the response waits", fmt.Sprint(done[0]), "[]")
		same(t, "and says so", len(st.s.State().Standing), 0) // it was not answered since
	})
}

// TestRefusedQuestion is answered at once, whatever the code, and holds nothing up.
func TestRefusedQuestion(t *testing.T) {
	for _, code := range []byte{0x80, 0x87, 0x97, 0x90} {
		play(t, nil, func(st *stage) {
			p := st.accept(false)
			asked := &outcome{}
			question := bridge.Message{Address: mapping.Address{Thing: thing, Channel: mapping.JobsGet}, Payload: []byte("q")}
			if err := st.s.Ask(context.Background(), question, asked.done); err != nil {
				t.Fatal(err)
			}
			p.come()
			p.puback(1, code)
			synctest.Wait()
			if !dead(asked) {
				t.Errorf("%#02x: %v", code, asked)
			}
			st.send(update("u"))
			same(t, "jobs go on", p.come(), "P2:u")
		})
	}
}

// TestQuestionOverWhichTheBrokerHangsUp is not asked for ever; the rest goes on.
func TestQuestionOverWhichTheBrokerHangsUp(t *testing.T) {
	for _, how := range []func(*peer){func(p *peer) { p.accuse(0x87) }, func(p *peer) { p.cut() }, func(p *peer) { p.accuse(0x82) }} {
		play(t, func(c *Config) { c.KeepAlive = time.Hour }, func(st *stage) {
			question := bridge.Message{Address: mapping.Address{Thing: thing, Channel: mapping.JobsGet}, Payload: []byte("q")}
			ask := func() *outcome {
				o := &outcome{}
				if err := st.s.Ask(context.Background(), question, o.done); err != nil {
					t.Fatal(err)
				}
				return o
			}
			for range 2 {
				p := st.accept(true)
				o := ask()
				if !strings.Contains(p.come(), ":q") {
					t.Fatal("not asked")
				}
				how(p)
				same(t, "lost", o.String(), "[not connected to the broker]")
			}
			p := st.accept(true)
			if o := ask(); !dead(o) || !strings.Contains(o.String(), "jobs.get is not asked for 1m0s") {
				t.Error(o)
			}
			st.send(event("e"))
			same(t, "the rest goes on", p.come(), "P3:e")
			p.puback(3, 0)
			time.Sleep(time.Minute)
			ask()
			same(t, "once more", p.come(), "P4:q")
			p.puback(4, 0)
			synctest.Wait()
			ask()
			same(t, "and again", p.come(), "P5:q")
		})
	}
}

// TestTopicThatTheBrokerHungUpOver is refused at once for a while, while others go.
func TestTopicThatTheBrokerHungUpOver(t *testing.T) {
	play(t, nil, func(st *stage) {
		s := &script{st: st, rule: func(p string, _ int) int {
			if strings.HasPrefix(p, "denied") {
				return expel
			}
			return 0
		}}
		denied := func(n int) bridge.Message {
			m := event(fmt.Sprint("denied", n))
			m.Address.ID = "denied"
			return m
		}
		done := st.send(denied(1), event("1"), event("2"))
		s.run(3 * time.Minute)
		for n := range 10 {
			done = append(done, st.send(denied(2+n))...)
		}
		done = append(done, st.send(event("3"))...)
		before := s.conns
		s.run(time.Minute)
		if got := s.conns - before; got > 1 {
			t.Errorf("%d connections", got)
		}
		for i, o := range done {
			if want := i == 0 || i > 2 && i < len(done)-1; dead(o) != want {
				t.Errorf("message %d: %v", i, o)
			}
		}
	})
}
