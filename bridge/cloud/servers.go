package cloud

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"
)

const (
	// firstPatience is how long a server may be silent while there are others to try, in the first pass through the list. It
	// is doubled for each further pass, up to mqtt.connect_timeout.
	firstPatience = 15 * time.Second
	// briefly is the same for the TCP connection alone, while the name has other addresses.
	briefly = 2 * time.Second
	// firstAgain is how long the first server of the list is not tried after it failed. After that the next new connection
	// begins with it again.
	firstAgain = 10 * time.Minute
)

// server is one place to connect to: a URL of the list, and one of the addresses of its name.
type server struct {
	url  *url.URL
	addr netip.Addr // zero: as the name says
}

func (s server) String() string {
	if s.addr.IsValid() {
		return Shown(s.url) + " (" + s.addr.String() + ")"
	}
	return Shown(s.url)
}

// Shown is a broker's URL for people: without a password, and without its query, which may be a token.
func Shown(u *url.URL) string {
	if u.RawQuery == "" {
		return u.Redacted()
	}
	short := *u
	short.RawQuery = "…"
	return short.Redacted()
}

func (s server) same(o server) bool { return s.url == o.url && s.addr == o.addr }

// roster knows where the next connection begins. It does no I/O and reads no clock.
type roster struct {
	next   server    // begins the next pass; zero: the first of the list
	since  time.Time // when the first URL last failed
	failed int       // servers in a row that did not work
}

// pass returns the list in the order in which it is tried.
func (r *roster) pass(list []server, now time.Time) []server {
	i := slices.IndexFunc(list, r.next.same)
	if i < 0 { // the name has other addresses now
		i = max(0, slices.IndexFunc(list, func(s server) bool { return s.url == r.next.url }))
	}
	out := append(slices.Clone(list[i:]), list[:i]...)
	if first := list[0]; out[0].url != first.url && now.Sub(r.since) >= firstAgain {
		out = append([]server{first}, slices.DeleteFunc(out, first.same)...)
	}
	return out
}

// patience is how long a server may be silent, and how long its TCP connection may take; 0: as long.
func (r *roster) patience(list []server, at server, whole time.Duration) (silent, tcp time.Duration) {
	if len(list) < 2 {
		return whole, 0
	}
	pass := r.failed / len(list)
	silent = doubled(min(firstPatience, whole), pass, whole)
	if slices.ContainsFunc(list, func(s server) bool { return s.url == at.url && s.addr != at.addr }) {
		tcp = doubled(min(briefly, whole), pass, whole)
	}
	return silent, tcp
}

// fails notes that a server did not work. It reports whether the list has another one that was not tried yet in this pass.
func (r *roster) fails(list []server, at server, now time.Time) (another bool) {
	if at.url == list[0].url {
		r.since = now
	}
	if i := slices.IndexFunc(list, at.same); i >= 0 {
		r.next = list[(i+1)%len(list)]
	}
	r.failed++
	return r.failed%len(list) != 0
}

// works notes that a server is the one to come back to.
func (r *roster) works(at server) { r.next, r.failed = at, 0 }

// named moves on to the server that a broker names, if it is in the list. A broker can't send its clients to a server that
// nobody configured, because that one would get their logins.
func (r *roster) named(list []server, reference string) {
	for _, s := range list {
		if address, err := hostPort(s.url); err == nil && (reference == address || reference == s.url.Hostname() || reference == s.url.String()) {
			r.next = s
			return
		}
	}
}

// servers lists every address of every configured server.
func (s *Session) servers(ctx context.Context) (out []server) {
	for _, u := range s.cfg.Servers {
		addrs := s.addresses(ctx, u)
		if len(addrs) < 2 {
			out = append(out, server{url: u})
			continue
		}
		for _, a := range addrs {
			out = append(out, server{u, a})
		}
	}
	return out
}

// addresses returns the addresses of the URL's name. There are none when it is an address itself, when a proxy resolves it, or
// when it can't be resolved: then the dialer returns the error.
func (s *Session) addresses(ctx context.Context, u *url.URL) []netip.Addr {
	if _, err := netip.ParseAddr(u.Hostname()); err == nil || proxied(u) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout)
	defer cancel()
	found, err := s.resolve(ctx, "ip", u.Hostname())
	if err != nil {
		return nil
	}
	return interleave(found)
}

func lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, network, host)
}

// proxied reports whether a proxy stands before a WebSocket.
func proxied(u *url.URL) bool {
	web := map[string]string{"ws": "http", "wss": "https"}[u.Scheme]
	if web == "" {
		return false
	}
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: web, Host: u.Host}})
	return err == nil && proxy != nil
}

// interleave puts an address of the other family behind each, beginning with the first one's (RFC 8305, section 4).
func interleave(addrs []netip.Addr) (out []netip.Addr) {
	var families [2][]netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		n := 0
		if a.Is4() != addrs[0].Unmap().Is4() {
			n = 1
		}
		if !slices.Contains(families[n], a) {
			families[n] = append(families[n], a)
		}
	}
	for i := range max(len(families[0]), len(families[1])) {
		for _, f := range families {
			if i < len(f) {
				out = append(out, f[i])
			}
		}
	}
	return out
}
