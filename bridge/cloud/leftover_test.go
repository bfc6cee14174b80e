package cloud

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/eclipse/paho.golang/packets"

	"fleetbridge/mapping"
)

func topics(t mapping.Thing, compact bool) (out []string) {
	for _, f := range mapping.Filters(t, compact) {
		out = append(out, f.Topic)
	}
	return out
}

func TestLeftovers(t *testing.T) {
	for _, c := range []struct {
		name       string
		compact    bool
		remembered []string
		want       int
		holds      string
	}{
		{"nothing is remembered", true, nil, 10, "shadow/update/delta"},
		{"nothing is remembered, the other way", false, nil, 5, "shadow/update/#"},
		{"what is wanted", true, topics(thing, true), 10, "shadow/update/delta"},
		{"another name of the Thing", true, topics("pump-06", false), 10 + 13, "$emqx/things/pump-06/jobs/notify"},
		{"an older version's", false, []string{"$emqx/things/pump-07/#"}, 5 + 1, "$emqx/things/pump-07/#"},
		{"twice the same", false, []string{"a", "a"}, 5 + 1, "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := leftovers(thing, c.compact, c.remembered)
			same(t, "filters", len(got), c.want)
			same(t, "holds "+c.holds, slices.ContainsFunc(got, func(f string) bool { return strings.HasSuffix(f, c.holds) }), true)
			for _, f := range topics(thing, c.compact) {
				same(t, f+" is left", slices.Contains(got, f), false)
			}
		})
	}
}

// notes is a FilterMemory.
type notes struct {
	mu      sync.Mutex
	filters []string
}

func (n *notes) Load(context.Context) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.filters, nil
}

func (n *notes) Save(_ context.Context, filters []string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.filters = filters
	return nil
}

// keeper is a broker that keeps one session's filters and grants no more than so many.
type keeper struct {
	most    int
	filters []string
}

// accept answers a connection as far as SUBACK and returns how many filters were granted.
func (k *keeper) accept(st *stage) (p *peer, granted int) {
	st.t.Helper()
	p = st.call()
	p.connack(0, k.filters != nil)
	for {
		switch c := p.next().Content.(type) {
		case *packets.Unsubscribe:
			answer := &packets.Unsuback{PacketID: c.PacketID, Properties: &packets.Properties{}}
			for _, f := range c.Topics {
				code := byte(0x11)
				if i := slices.Index(k.filters, f); i >= 0 {
					k.filters, code = slices.Delete(k.filters, i, i+1), 0
				}
				answer.Reasons = append(answer.Reasons, code)
			}
			p.send(answer)
		case *packets.Subscribe:
			answer := &packets.Suback{PacketID: c.PacketID, Properties: &packets.Properties{}}
			for _, sub := range c.Subscriptions {
				code := byte(1)
				if !slices.Contains(k.filters, sub.Topic) {
					if len(k.filters) >= k.most {
						code = 0x97
					} else {
						k.filters = append(k.filters, sub.Topic)
					}
				}
				if code == 1 {
					granted++
				}
				answer.Reasons = append(answer.Reasons, code)
			}
			p.send(answer)
			synctest.Wait()
			return p, granted
		}
	}
}

// copies is how often a message of a topic comes.
func (k *keeper) copies(topic string) (n int) {
	for _, f := range k.filters {
		if matches(strings.Split(f, "/"), strings.Split(topic, "/")) {
			n++
		}
	}
	return n
}

func matches(filter, topic []string) bool {
	for i, f := range filter {
		if f == "#" {
			return true
		}
		if i >= len(topic) || f != "+" && f != topic[i] {
			return false
		}
	}
	return len(filter) == len(topic)
}

// TestKeptFilters switches what a kept session is subscribed to, run after run, at a broker with a quota and at one
// without: everything is granted, and nothing comes twice.
func TestKeptFilters(t *testing.T) {
	type run struct {
		compact bool
		thing   mapping.Thing
		lost    bool // the memory
		granted int
	}
	for name, c := range map[string]struct {
		most int
		runs []run
	}{
		"a quota of 10, exact and then compact": {10, []run{{false, thing, false, 10}, {true, thing, false, 8}}},
		"the same, the store is lost":           {10, []run{{false, thing, false, 10}, {true, thing, true, 8}}},
		"both ways":                             {100, []run{{false, thing, false, 13}, {true, thing, false, 8}, {false, thing, false, 13}, {true, thing, true, 8}}},
		"the Thing gets another name":           {13, []run{{false, "pump-06", false, 13}, {false, thing, false, 13}}},
		"another name, and compact":             {10, []run{{false, "pump-06", false, 10}, {true, thing, false, 8}, {true, "pump-08", false, 8}}},
	} {
		t.Run(name, func(t *testing.T) {
			k, memory := &keeper{most: c.most}, &notes{}
			for i, r := range c.runs {
				if r.lost {
					memory.filters = nil
				}
				play(t, func(cfg *Config) { cfg.Compact, cfg.Filters = r.compact, memory }, func(st *stage) {
					st.s.thing = r.thing
					p, granted := k.accept(st)
					same(t, fmt.Sprintf("granted in run %d", i), granted, r.granted)
					p.cut()
					before := len(k.filters)
					p, _ = k.accept(st) // a reconnection changes nothing
					same(t, "filters after a reconnection", len(k.filters), before)
					same(t, "connected", st.s.State().Connected, true)
					_ = p
				})
				for _, f := range topics(r.thing, false) {
					topic := strings.ReplaceAll(f, "+", "x")
					if n := k.copies(topic); n > 1 || n == 0 && r.granted != 10 {
						t.Errorf("run %d: %s comes %d times", i, topic, n)
					}
				}
				for _, f := range k.filters {
					if !slices.Contains(topics(r.thing, r.compact), f) {
						t.Errorf("run %d: %s is left", i, f)
					}
				}
			}
		})
	}
}

// TestNothingToTidy: a session that holds what is wanted costs no packet.
func TestNothingToTidy(t *testing.T) {
	play(t, func(c *Config) { c.Filters = &notes{filters: topics(thing, false)} }, func(st *stage) {
		for range 3 {
			p := st.accept(true)
			same(t, "unsubscribed", len(p.unsubscribe), 0)
			p.cut()
		}
	})
}

// TestSilentUnsubscribe: a broker that does not answer, or refuses, is subscribed to all the same, and asked again.
func TestSilentUnsubscribe(t *testing.T) {
	for name, code := range map[string]byte{"silent": 0, "refuses": 0x87} {
		t.Run(name, func(t *testing.T) {
			memory := &notes{filters: topics(thing, true)}
			play(t, func(c *Config) { c.Filters = memory }, func(st *stage) {
				for range 2 {
					p := st.call()
					p.connack(0, true)
					u := p.next().Content.(*packets.Unsubscribe)
					same(t, "unsubscribed", len(u.Topics), 5)
					if code != 0 {
						p.send(&packets.Unsuback{PacketID: u.PacketID, Reasons: []byte{code, 0, 0, 0, 0}, Properties: &packets.Properties{}})
					}
					p.suback(nil)
					synctest.Wait()
					same(t, "subscribed", st.s.State().Subscribed, true)
					p.cut()
				}
				same(t, "warned", st.log.count("keeps subscriptions") > 0, code != 0)
			})
		})
	}
}
