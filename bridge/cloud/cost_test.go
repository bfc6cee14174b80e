package cloud

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// TestWhatABadBrokerCosts: an hour with a broker that gets nothing done, on a link that is paid for by the byte.
func TestWhatABadBrokerCosts(t *testing.T) {
	deaf := func(p *peer) {
		p.connack(0, true)
		p.suback(nil)
		p.keepsUp()
	}
	for name, c := range map[string]struct {
		serve func(*peer)
		size  int
		most  int64
	}{
		"acknowledges nothing, small":      {deaf, 500, 200_000},
		"acknowledges nothing, large":      {deaf, 20_000, 600_000},
		"grants nothing":                   {func(p *peer) { p.connack(0, false); p.keepsUp() }, 500, 100_000},
		"hangs up before SUBACK":           {func(p *peer) { p.connack(0, true); p.next(); p.c.Close() }, 500, 300_000},
		"hangs up after the first message": {func(p *peer) { p.connack(0, true); p.suback(nil); p.next(); p.c.Close() }, 2000, 300_000},
		"refuses":                          {func(p *peer) { p.connack(0x86, false); p.c.Close() }, 500, 100_000},
		"is silent":                        {func(p *peer) { p.keepsUp() }, 500, 100_000},
		"refuses everything for now": {func(p *peer) {
			p.connack(0, true)
			p.suback(nil)
			for packet := range p.in {
				switch c := packet.Content.(type) {
				case *packets.Publish:
					p.puback(c.PacketID, 0x97)
				case *packets.Pingreq:
					p.raw([]byte{0xD0, 0})
				}
			}
		}, 500, 1_000_000},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(cfg *Config) { cfg.Backoff = Backoff{Max: 8 * time.Second} }, func(st *stage) {
				go func() {
					for {
						select {
						case conn := <-st.calls:
							p := &peer{t: t, c: &thinConn{conn, &st.link}, in: make(chan *packets.ControlPacket, 1<<10)}
							go func() {
								defer close(p.in)
								for {
									packet, err := packets.ReadPacket(p.c)
									if err != nil {
										return
									}
									p.in <- packet
								}
							}()
							go func() {
								<-p.in // CONNECT
								c.serve(p)
								p.c.Close()
							}()
						case <-st.ended:
							return
						}
					}
				}()
				for n := range 200 {
					st.send(event(fmt.Sprint(n) + strings.Repeat("x", c.size)))
				}
				time.Sleep(time.Hour)
				if n := st.link.bytes.Load(); n > c.most {
					t.Errorf("%d bytes went up in an hour", n)
				}
				t.Logf("%d bytes, %d connections", st.link.bytes.Load(), len(strings.Fields(st.tried())))
			})
		})
	}
}

// TestRecoversFromLinkOutage: a network that was away is no broker's fault.
func TestRecoversFromLinkOutage(t *testing.T) {
	play(t, func(c *Config) { c.Backoff = Backoff{Max: 8 * time.Second} }, func(st *stage) {
		for range 8 { // a broker that dies grants nothing
			p := st.call()
			p.connack(0, true)
			p.cut()
		}
		refused := net.OpError{Op: "dial", Err: fmt.Errorf("no route to host")}
		st.refuse.Store(&refused)
		time.Sleep(10 * time.Minute)
		st.refuse.Store(nil)
		start := time.Now()
		p := st.accept(true)
		if d := time.Since(start); d > 9*time.Second {
			t.Errorf("back after %v", d)
		}
		p.cut()
		start = time.Now()
		st.accept(true)
		if d := time.Since(start); d > time.Second {
			t.Errorf("back after %v", d)
		}
	})
}

// TestTwins: two bridges of one Thing, with a broker that says nothing at a take-over.
func TestTwins(t *testing.T) {
	twins := [2]pauses{}
	for i := range twins {
		twins[i] = pauses{rules: Backoff{Min: 500 * time.Millisecond, Max: 8 * time.Second, Takeover: 30 * time.Second}}
	}
	kicks := 0
	for now, last := time.Duration(0), time.Duration(0); now < 100*time.Second; kicks++ {
		d := twins[kicks%2].lost(ending{cause: errHungUp, subscribed: true, acked: 1, lived: now - last})
		last, now = now, now+d+50*time.Millisecond
	}
	if kicks > 40 {
		t.Errorf("%d connections in 100 s", kicks)
	}
	t.Logf("%d connections", kicks)
}

// TestTooFast: a broker that refuses a burst for its rate gets half of it for a while.
func TestTooFast(t *testing.T) {
	t.Run("DISCONNECT 0x96", func(t *testing.T) {
		play(t, nil, func(st *stage) {
			p := st.accept(false)
			st.send(events(1, 14)...)
			synctest.Wait()
			p.send(&packets.Disconnect{ReasonCode: 0x96, Properties: &packets.Properties{}})
			p.closed()
			synctest.Wait()
			same(t, "named", strings.Contains(st.s.State().LastError, "mqtt.max_publish_rate"), true)
			p = st.accept(true)
			st.send(event("last"))
			start := time.Now()
			p.reads("last")
			if d := time.Since(start); d < time.Second || d > 5*time.Second {
				t.Errorf("15 messages took %v", d)
			}
		})
	})
	t.Run("a single message", func(t *testing.T) {
		p := pace{}
		now := time.Unix(100, 0)
		p.sent(now)
		same(t, "halved", p.tooFast(now, refusedRest), false)
		same(t, "due", p.due(now).IsZero(), true)
	})
	t.Run("halved again and again", func(t *testing.T) {
		p := pace{}
		now := time.Unix(100, 0)
		rates := []float64{}
		for range 8 {
			for range 1000 { // as fast as it may
				if due := p.due(now); due.After(now) {
					if due.Sub(now) > time.Second {
						break
					}
					now = due
				}
				p.sent(now)
			}
			now = now.Add(10 * time.Millisecond)
			if p.tooFast(now, kickedRest) {
				rates = append(rates, p.limit(now))
			}
		}
		for i := 1; i < len(rates); i++ {
			if r := rates[i-1] / rates[i]; r < 1 || r > 2.01 {
				t.Errorf("rates %v", rates)
			}
		}
		if len(rates) < 3 {
			t.Errorf("rates %v", rates)
		}
		now = now.Add(kickedRest + time.Minute)
		same(t, "and over", p.interval(now), 0)
	})
}

// TestWindowGrows: a new connection begins with little, and what a link can't carry does not pile up in it.
func TestWindowGrows(t *testing.T) {
	inFlight := func(roundTrip time.Duration, bytesPerSecond int) int {
		var w window
		w.open(false)
		now, free := time.Duration(0), time.Duration(0)
		type message struct{ sent, done time.Duration }
		var flight []message
		const size = 500
		for range 20000 {
			for w.has(len(flight), size) && len(flight) < 512 {
				free = max(free, now) + time.Duration(size)*time.Second/time.Duration(bytesPerSecond)
				flight = append(flight, message{now, free + roundTrip})
				w.flying += size
			}
			m := flight[0]
			flight, now = flight[1:], m.done
			w.flying -= size
			w.acked(size, m.done-m.sent)
		}
		return min(w.messages, 512)
	}
	for _, c := range []struct {
		roundTrip   time.Duration
		rate        int
		least, most int
	}{
		{50 * time.Millisecond, 10 << 20, 512, 512},
		{600 * time.Millisecond, 1 << 20, 512, 512},
		{50 * time.Millisecond, 2000, 16, 32},
		{6 * time.Second, 2000, 16, 128},
	} {
		if n := inFlight(c.roundTrip, c.rate); n < c.least || n > c.most {
			t.Errorf("round trip %v at %d B/s: %d messages in flight, want %d to %d", c.roundTrip, c.rate, n, c.least, c.most)
		}
	}
	var w window
	w.open(true)
	same(t, "the first", w.has(0, 1<<20), true)
	same(t, "one at a time", w.has(1, 10), false)
}
