package cloud

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// fallbackDelay is how long a TCP connection to one address of a name may take before another one is begun beside it
// (RFC 8305, section 5).
const fallbackDelay = 250 * time.Millisecond

// attempt is one try to reach a server.
type attempt struct {
	server server // whose turn it is; afterwards the one that took the TCP connection
	others []netip.Addr
	// How long it may be silent, and how long a TCP connection may take; 0: as long.
	silent, tcp time.Duration
	missed      []missed // the addresses that took none
}

// missed is an address that did not take a TCP connection, and why.
type missed struct {
	addr netip.Addr
	err  error
}

// race opens a TCP connection to the first of the addresses that takes one. It begins with the first, and with the next one
// whenever one has failed or the last has taken fallbackDelay. At most one connection is left open; won is whose it is.
func race(ctx context.Context, addrs []netip.Addr, dial func(context.Context, netip.Addr) (net.Conn, error)) (c net.Conn, won netip.Addr, lost []missed) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		net.Conn
		missed
	}
	results := make(chan result)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for begun, ended := 0, 0; ended < len(addrs); {
		select {
		case <-timer.C:
			if begun == len(addrs) || c != nil {
				continue
			}
			addr := addrs[begun]
			begun++
			timer.Reset(fallbackDelay)
			go func() {
				c, err := dial(ctx, addr)
				results <- result{c, missed{addr, err}}
			}()
			continue
		case r := <-results:
			ended++
			switch {
			case r.err == nil && c == nil:
				c, won = r.Conn, r.addr
				ended += len(addrs) - begun // those are not begun any more
				cancel()
			case r.err == nil:
				_ = r.Close()
			case c == nil:
				lost = append(lost, r.missed)
				timer.Reset(0)
			}
		}
	}
	return c, won, lost
}
