package cloud

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestRace: an address that swallows what it is sent costs a moment, one that refuses nothing, and one connection is left.
func TestRace(t *testing.T) {
	const never = time.Hour
	refused := errors.New("refused")
	type target struct {
		after time.Duration
		err   error
	}
	for name, c := range map[string]struct {
		targets []target
		won     int // -1: none
		within  time.Duration
		begun   int64
	}{
		"the first":                    {[]target{{after: 100 * time.Millisecond}, {}}, 0, 100 * time.Millisecond, 1},
		"the first swallows":           {[]target{{after: never}, {}}, 1, fallbackDelay, 2},
		"the first refuses":            {[]target{{err: refused}, {}}, 1, 0, 2},
		"two swallow":                  {[]target{{after: never}, {after: never}, {after: time.Second}}, 2, 2*fallbackDelay + time.Second, 3},
		"the first is slow":            {[]target{{after: 400 * time.Millisecond}, {after: time.Second}}, 0, 400 * time.Millisecond, 2},
		"all refuse":                   {[]target{{err: refused}, {err: refused}}, -1, 0, 2},
		"all refuse late":              {[]target{{after: time.Second, err: refused}, {after: time.Second, err: refused}}, -1, time.Second + fallbackDelay, 2},
		"one swallows and one refuses": {[]target{{after: never}, {err: refused}, {}}, 2, fallbackDelay, 3},
		"alone":                        {[]target{{after: 3 * time.Second}}, 0, 3 * time.Second, 1},
		"nobody answers":               {[]target{{after: never}, {after: never}}, -1, 2 * time.Second, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var addrs []netip.Addr
				for i := range c.targets {
					addrs = append(addrs, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
				}
				var begun, open atomic.Int64
				dial := func(ctx context.Context, a netip.Addr) (net.Conn, error) {
					begun.Add(1)
					target := c.targets[a.As4()[3]]
					select {
					case <-time.After(target.after):
					case <-ctx.Done():
						return nil, ctx.Err()
					}
					if target.err != nil {
						return nil, target.err
					}
					open.Add(1)
					return &closing{closed: func() { open.Add(-1) }}, nil
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				if c.within > 2*time.Second {
					ctx = t.Context()
				}
				defer cancel()
				start := time.Now()
				conn, won, lost := race(ctx, addrs, dial)
				same(t, "took", time.Since(start), c.within)
				same(t, "begun", begun.Load(), c.begun)
				if c.won < 0 {
					same(t, "lost", len(lost), len(addrs))
					same(t, "open", open.Load(), 0)
					same(t, "won", conn == nil, true)
					return
				}
				same(t, "won", won, addrs[c.won])
				same(t, "open", open.Load(), 1)
			})
		})
	}
}

type closing struct {
	net.Conn
	closed func()
}

func (c *closing) Close() error { c.closed(); return nil }

// TestDialRaces: the address that took the connection is the one that is used, and those that did not are named.
func TestDialRaces(t *testing.T) {
	l := listen(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	addrs := func(all ...string) (out []netip.Addr) {
		for _, a := range all {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	for _, c := range []struct{ first, others, won, missed string }{
		{"127.0.0.2", "127.0.0.1", "127.0.0.1", "127.0.0.2"},
		{"127.0.0.1", "127.0.0.2", "127.0.0.1", ""},
		{"127.0.0.3", "127.0.0.2", "", "127.0.0.3 127.0.0.2"},
	} {
		d := dialing{server: server{&url.URL{Scheme: "mqtt", Host: "name:" + port}, netip.MustParseAddr(c.first)}, wire: &meter{}}
		d.try = &attempt{server: d.server, others: addrs(c.others)}
		conn, err := dial(t.Context(), d)
		var missed []string
		for _, m := range d.try.missed {
			missed = append(missed, m.addr.String())
		}
		same(t, c.first+" missed", strings.Join(missed, " "), c.missed)
		if c.won == "" {
			same(t, c.first, err != nil, true)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		same(t, c.first+" won", fmt.Sprint(d.try.server), "mqtt://name:"+port+" ("+c.won+")")
	}
}
