package cloud

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

func TestBudgetFits(t *testing.T) {
	const total = 1 << 20
	for _, c := range []struct {
		name         string
		mine, others int // held
		want         int
		fits         bool
	}{
		{"nothing is held", 0, 0, total, true},
		{"more than all, by who holds nothing", 0, 0, 2 * total, true},
		{"more than all, by who holds something", 1, 0, total, false},
		{"the first half", total/2 - 1, 0, 1, true},
		{"the second half", total / 2, 0, 1, false},
		{"a third beside one that has half", total / 4, total / 2, 1, false},
		{"a quarter beside one that has half", total/4 - 1, total / 2, 1, true},
		{"the own share in a full budget", ownShare - 1, 2 * total, 1, true},
		{"beyond the own share in a full budget", ownShare, 2 * total, 1, false},
		{"the first message in a full budget", 0, 2 * total, total, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := NewBudget(total)
			mine, others := b.account(), b.account()
			mine.charge(c.mine)
			others.charge(c.others)
			same(t, "fits", mine.try(c.want), c.fits)
			want := c.mine + c.others
			if c.fits {
				want += c.want
			}
			same(t, "used", b.Used(), want)
		})
	}
}

// TestBudgetLine: who waits gets room in the order of coming, and nobody waits for room that there is.
func TestBudgetLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(1 << 20)
		greedy, modest, gone := b.account(), b.account(), b.account()
		for greedy.try(100 << 10) {
		}
		held := greedy.used
		modest.charge(ownShare)
		gone.charge(ownShare)
		got := make(chan string, 10)
		claim := func(ctx context.Context, name string, a *account, n int) {
			go func() {
				if a.acquire(ctx, n) {
					got <- name
				} else {
					got <- name + " gave up"
				}
			}()
			synctest.Wait()
		}
		ctx, giveUp := context.WithCancel(t.Context())
		claim(t.Context(), "greedy", greedy, 500<<10)
		claim(ctx, "gone", gone, 600<<10)
		claim(t.Context(), "modest", modest, 550<<10)
		same(t, "served", len(got), 0)
		giveUp()
		same(t, "who left", <-got, "gone gave up")
		greedy.release(200 << 10)
		same(t, "served", <-got, "modest")
		synctest.Wait()
		same(t, "served", len(got), 0)
		modest.close()
		greedy.release(held - 200<<10)
		same(t, "served", <-got, "greedy")
		gone.close()
		same(t, "used", b.Used(), 500<<10)
		greedy.lift()
		same(t, "with the bound lifted", greedy.try(10<<20), true)
		greedy.close()
		greedy.release(100) // of a message that is settled after all
		same(t, "used in the end", b.Used(), 0)
	})
}

// flood is a session of one of several Things that share a budget, and has a broker that never stops sending.
type flood struct{ s *Session }

// startFlood has a broker send packets as soon as it has granted the subscriptions, until packet returns nil.
func startFlood(t *testing.T, b *Budget, packet func(n int) []byte) *flood {
	t.Helper()
	f := &flood{}
	calls := make(chan net.Conn)
	f.s = NewSession(thing, Config{
		Servers: []*url.URL{{Scheme: "mqtt", Host: "broker"}}, ClientID: "pump-07", Memory: b,
	}, Hooks{}, slog.New(slog.DiscardHandler))
	st := &stage{t: t, s: f.s, calls: calls}
	f.s.resolve, f.s.dial = st.resolve, st.dial
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = f.s.Run(ctx)
	}()
	p := st.call()
	p.connack(0, false)
	p.suback(nil)
	go func() {
		for n := 0; ; n++ {
			b := packet(n)
			if b == nil {
				return
			}
			if _, err := p.c.Write(b); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return f
}

// held counts the bytes of what waits in a session, without any account of its own.
func (f *flood) held() (n, messages int) {
	f.s.inbox.mu.Lock()
	defer f.s.inbox.mu.Unlock()
	for _, it := range f.s.inbox.items[f.s.inbox.first:] {
		n += cap(it.delivery.Payload) + len(it.delivery.Origin) + len(it.delivery.Stray) + len(it.delivery.Trace.Parent)
		if it.delivery.Err != nil {
			n += len(it.delivery.Err.Error())
		}
	}
	return n, len(f.s.inbox.items[f.s.inbox.first:])
}

func of(p *packets.Publish) []byte {
	var b strings.Builder
	if p.Properties == nil {
		p.Properties = &packets.Properties{}
	}
	_, _ = p.WriteTo(&b)
	return []byte(b.String())
}

func always(b []byte) func(int) []byte { return func(int) []byte { return b } }

// TestFlood: whatever a broker floods a Thing with, what waits in memory is bounded, and another Thing of the
// same budget gets its messages.
func TestFlood(t *testing.T) {
	const budget = 512 << 10
	large := []byte(strings.Repeat("x", 1<<20))
	for name, packet := range map[string]func(n int) []byte{
		"too large, QoS 1": func(n int) []byte {
			return of(&packets.Publish{QoS: 1, PacketID: uint16(n%1024 + 1), Topic: notify, Payload: large})
		},
		"too large, QoS 0":    always(of(&packets.Publish{Topic: notify, Payload: large})),
		"as large as allowed": always(of(&packets.Publish{Topic: notify, Payload: large[:128<<10]})),
		"small, QoS 0":        always(of(&packets.Publish{Topic: notify})),
		"small, QoS 2": func(n int) []byte {
			return of(&packets.Publish{QoS: 2, PacketID: uint16(n%65535 + 1), Topic: notify, Payload: []byte("x")})
		},
		"foreign topics that are long": always(of(&packets.Publish{Topic: strings.Repeat("\x01/", 3000), Payload: []byte("x")})),
		"empty user properties":        always(of(&packets.Publish{Topic: notify, Properties: &packets.Properties{User: make([]packets.User, 30)}})),
		"traces": always(of(&packets.Publish{Topic: notify, Properties: &packets.Properties{User: []packets.User{
			{Key: traceParent, Value: string(large[:maxTrace])}, {Key: traceState, Value: string(large[:60000])}}}})),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := NewBudget(budget)
				f := startFlood(t, b, packet)
				second := startFlood(t, b, packet)
				synctest.Wait() // both brokers' writes block: the sockets are not read
				n, messages := f.held()
				more, _ := second.held()
				if n+more > budget || b.Used() > budget+2*(128<<10+maxTopic+overhead) {
					t.Errorf("%d and %d bytes wait, %d are accounted for, the budget is %d", n, more, b.Used(), budget)
				}
				if messages < 1 {
					t.Errorf("%d messages wait", messages)
				}
				quiet := startFlood(t, b, func(n int) []byte {
					if n == 0 {
						return of(&packets.Publish{QoS: 1, PacketID: 1, Topic: notify, Payload: large[:1<<10]})
					}
					return nil
				})
				synctest.Wait()
				same(t, "of the quiet Thing", quiet.s.waiting(), 1)
				// Everything that is settled makes room.
				for range 3 * messages {
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					one(t, ctx, f.s).Settle()
					cancel()
				}
				synctest.Wait()
				if _, again := f.held(); again < messages/3 {
					t.Errorf("%d messages wait after others were settled, %d before", again, messages)
				}
			})
		})
	}
}

// TestFloodGivenBack: what a session held is there for the others when it ends, and when the broker is about to
// bring it again.
func TestFloodGivenBack(t *testing.T) {
	b := NewBudget(1 << 20)
	play(t, func(c *Config) { c.Memory = b }, func(st *stage) {
		p := st.accept(false)
		for id := range uint16(5) {
			p.publish(id+1, notify, strings.Repeat("x", 10<<10))
		}
		p.publish(0, notify, "y", func(m *packets.Publish) { m.QoS = 0 })
		synctest.Wait()
		before := b.Used()
		if before < 50<<10 {
			t.Errorf("%d bytes are held", before)
		}
		taken := st.take(1)[0]
		p.cut()
		p = st.accept(true)
		if left := b.Used(); left < 10<<10 || left > 12<<10 {
			t.Errorf("%d bytes are held: neither what was taken nor what comes once only has gone, the rest comes again", left)
		}
		p.publish(2, notify, "x", dup)
		p.publish(2, notify, "x", dup) // a copy is not kept twice
		synctest.Wait()
		if left := b.Used(); left > 13<<10 {
			t.Errorf("%d bytes are held", left)
		}
		taken.Settle()
		if left := b.Used(); left > 3<<10 {
			t.Errorf("%d bytes are held", left)
		}
		st.stop()
		<-st.ended
		same(t, "held in the end", b.Used(), 0)
	})
}
