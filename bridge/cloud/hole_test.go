package cloud

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// tunnelled plays one connection of a broker behind a link that loses a packet of more than room bytes and all that comes
// behind it, until the session hangs up or end has come. It returns the payloads that were sent, and those that came.
func (st *stage) tunnelled(present bool, room int, end time.Time) (sent, came []string) {
	st.t.Helper()
	var p *peer
	select {
	case c := <-st.calls:
		p = st.answerCall(c)
	case <-time.After(time.Until(end)):
		return nil, nil
	}
	p.connack(0, present)
	p.suback(nil)
	lost := false
	for {
		select {
		case <-time.After(time.Until(end)):
			return sent, came
		case packet, ok := <-p.in:
			if !ok {
				return sent, came
			}
			if packet.Type == packets.PINGREQ && !lost {
				p.send(&packets.Pingresp{})
			}
			m, is := packet.Content.(*packets.Publish)
			if !is {
				continue
			}
			payload, _, _ := strings.Cut(string(m.Payload), " ")
			sent = append(sent, payload)
			if lost = lost || len(m.Payload) > room; lost {
				continue
			}
			came = append(came, payload)
			time.Sleep(time.Millisecond)
			p.puback(m.PacketID, 0)
		}
	}
}

func sized(name string, size int) string { return name + " " + strings.Repeat("x", size-len(name)-1) }

// goOn hands over twenty responses, one every three seconds.
func (st *stage) goOn() {
	for n := range 20 {
		time.Sleep(3 * time.Second)
		st.send(response(fmt.Sprint("late", n)))
	}
}

// TestHoleInTheLink: what a link swallows for its size is found out with three tries, of which two are alone, and known
// from then on.
func TestHoleInTheLink(t *testing.T) {
	const room = 1300
	quick := func(c *Config) { c.AckTimeout = 10 * time.Second }
	t.Run("found", func(t *testing.T) {
		play(t, quick, func(st *stage) {
			done := st.send(append(append(events(1, 3), event(sized("large", 3000))), events(4, 20)...)...)
			st.send(response("a"), response("b"))
			end := time.Now().Add(2 * time.Minute)
			tries, wasted, arrived := 0, 0, 0
			go st.goOn()
			for conn := 0; time.Now().Before(end); conn++ {
				sent, came := st.tunnelled(conn > 0, room, end)
				arrived += len(came)
				for _, payload := range sent[len(came):] {
					if payload == "large" {
						tries++
					} else if conn > 0 {
						wasted++
					}
				}
				if conn > 3 {
					t.Fatalf("%d connections", conn+1)
				}
			}
			same(t, "tries", tries, 3)
			same(t, "sent behind it once it was known", wasted, 0)
			same(t, "arrived", arrived, 20+2+20)
			if !dead(done[3]) || !strings.Contains(done[3].String(), "stalls over its 30") {
				t.Error(done[3])
			}
			other := st.send(event(sized("another", 3500)), event(sized("largest", 9000)), event(sized("smaller", 1200)))
			synctest.Wait()
			for i, want := range []bool{true, true, false} {
				if dead(other[i]) != want {
					t.Errorf("another %d: %v", i, other[i])
				}
			}
			if !strings.Contains(other[0].String(), "the link lost a packet of 30") {
				t.Error(other[0])
			}
		})
	})
	t.Run("of several kinds, of which one has nothing else", func(t *testing.T) {
		play(t, quick, func(st *stage) {
			done := st.send(append(append(events(1, 3), event(sized("large1", 3000)), event(sized("large2", 4000))), events(4, 20)...)...)
			done = append(done, st.send(report(sized("large3", 5000)))...)
			go st.goOn()
			tries, arrived := 0, 0
			end := time.Now().Add(3 * time.Minute)
			for conn := 0; time.Now().Before(end); conn++ {
				sent, came := st.tunnelled(conn > 0, room, end)
				arrived += len(came)
				tries += strings.Count(fmt.Sprint(sent), "large")
				if conn > 4 {
					t.Fatalf("%d connections", conn+1)
				}
			}
			same(t, "arrived", arrived, 20+20)
			for i, o := range done {
				if want := i == 3 || i == 4 || i == len(done)-1; dead(o) != want {
					t.Errorf("message %d: %v", i, o)
				}
			}
			if tries > 5 {
				t.Errorf("large ones were sent %d times", tries)
			}
		})
	})
	t.Run("the broker alone does not acknowledge it", func(t *testing.T) {
		play(t, quick, func(st *stage) {
			s := &script{st: st, rule: func(payload string, _ int) int {
				if strings.HasPrefix(payload, "large") {
					return swallow
				}
				return 0
			}}
			done := st.send(append(events(1, 3), event(sized("large", 3000)))...)
			time.AfterFunc(12*time.Second, func() { st.send(events(4, 5)...) })
			s.run(5 * time.Minute)
			same(t, "dead", dead(done[3]), true)
			if s.conns > 8 {
				t.Errorf("%d connections", s.conns)
			}
			done = st.send(event(sized("another", 3000)))
			s.run(time.Minute)
			same(t, "another", done[0].String(), "[<nil>]")
		})
	})
	t.Run("mended", func(t *testing.T) {
		play(t, quick, func(st *stage) {
			done := st.send(append(events(1, 3), event(sized("large", 3000)), event("4"), event("5"))...)
			end := time.Now().Add(time.Minute)
			_, came := st.tunnelled(false, room, end)
			same(t, "before", fmt.Sprint(came), "[1 2 3]")
			_, came = st.tunnelled(true, 1<<20, end)
			same(t, "then in order", fmt.Sprint(came), "[large 4 5]")
			for _, o := range done {
				same(t, "outcome", o.String(), "[<nil>]")
			}
		})
	})
	t.Run("cut off while it leaves", func(t *testing.T) {
		play(t, quick, func(st *stage) {
			done := st.send(append(events(1, 3), event(sized("large", 60000)), event("4"))...)
			for n := range 3 { // the link dies in the middle each time
				st.link.up.Store(1000)
				p := st.call()
				p.connack(0, n > 0)
				p.suback(nil)
				time.AfterFunc(30*time.Second, func() { st.link.up.Store(1) })
				for packet := range p.in {
					if m, is := packet.Content.(*packets.Publish); is {
						p.puback(m.PacketID, 0)
					}
				}
			}
			same(t, "not held against it", done[3].String(), "[]")
			st.link.up.Store(0)
			st.tunnelled(true, 1<<20, time.Now().Add(time.Hour)) // the pauses are as long as what was lost is large
			same(t, "outcome", done[3].String(), "[<nil>]")
		})
	})
}

// TestHoleIsForgotten: after a while one as large is tried, alone; when it passes, all go.
func TestHoleIsForgotten(t *testing.T) {
	play(t, func(c *Config) { c.KeepAlive = time.Hour }, func(st *stage) {
		p := st.accept(false)
		st.s.mu.Lock()
		st.s.out.hole.lost(3000, time.Now())
		st.s.mu.Unlock()
		refused := st.send(event(sized("1", 4000)))
		same(t, "sent", p.come(), "")
		same(t, "refused", dead(refused[0]), true)
		time.Sleep(badFor + time.Second)
		p.come()
		st.send(event(sized("2", 4000)), event("3"), response("4"))
		same(t, "first what is small", p.come(), "P1:4")
		p.puback(1, 0)
		same(t, "then it alone", strings.Fields(p.come())[0], "P2:2")
		p.puback(2, 0)
		same(t, "then the rest", p.come(), "P3:3")
		p.puback(3, 0)
		st.send(event(sized("5", 4000)), event("6"))
		same(t, "and as ever", len(strings.Fields(p.come())), 3)
	})
	play(t, listed("a", "b"), func(st *stage) {
		p := st.accept(false)
		st.s.mu.Lock()
		st.s.out.hole.lost(3000, time.Now())
		st.s.mu.Unlock()
		p.send(&packets.Disconnect{ReasonCode: 0x9C, Properties: &packets.Properties{}})
		p.closed()
		p = st.accept(true)
		same(t, "tried", st.tried(), "a b")
		st.send(event(sized("1", 4000)))
		same(t, "another server's link", strings.Fields(p.come())[0], "P1:1")
	})
}

// TestHoleOnTheWayDown: a kept session whose first message is lost each time is not fetched again and again.
func TestHoleOnTheWayDown(t *testing.T) {
	play(t, func(c *Config) { c.KeepAlive = 10 * time.Second }, func(st *stage) {
		st.accept(false).cut()
		start, calls := time.Now(), 0
		for time.Since(start) < 10*time.Minute {
			select {
			case c := <-st.calls:
				calls++
				p := st.answerCall(c)
				p.connack(0, true) // what is behind it is lost
				p.closed()
			case <-time.After(time.Second):
			}
		}
		if calls < 3 || calls > 6 {
			t.Errorf("%d connections in 10 minutes", calls)
		}
		st.mu.Lock()
		defer st.mu.Unlock()
		same(t, "with small segments", fmt.Sprint(st.small[:4]), "[false false true true]")
		same(t, "which is said once", st.log.count("INFO a connection stalled; TCP segments are small"), 1)
	})
}
