package console

import (
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// policy lets the page run its own files and nothing else: what a payload says can't become a script, and nobody can
// show the page in a frame of his own.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types lit-html"

// harden sets what every answer has, errors too.
func harden(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// guard refuses what a page of somebody else's would have a browser send.
type guard struct {
	hosts  []string // in small letters
	origin *http.CrossOriginProtection
}

func newGuard(hosts []string) guard {
	g := guard{origin: http.NewCrossOriginProtection()}
	for _, h := range hosts {
		g.hosts = append(g.hosts, hostOf(h))
	}
	return g
}

func isAPI(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/api/") }

// refuses says why a request is not answered; nil: it is.
func (g guard) refuses(r *http.Request) *failure {
	if host := hostOf(r.Host); !g.known(host) {
		return refuse(http.StatusMisdirectedRequest, "the name %q in the header Host is none of this console's: ask for localhost or an address, or add the name to console.hosts", clean(host))
	}
	if g.origin.Check(r) != nil {
		return refuse(http.StatusForbidden, "the request comes from a page of another site")
	}
	if site := r.Header.Get("Sec-Fetch-Site"); isAPI(r) && site != "" && site != "same-origin" && site != "none" {
		return refuse(http.StatusForbidden, "the request comes from a page of another site")
	}
	return nil
}

// known reports whether a host is this console's: a page whose name leads to this address has another one.
func (g guard) known(host string) bool {
	return net.ParseIP(host) != nil || host == "localhost" || strings.HasSuffix(host, ".localhost") || host != "" && slices.Contains(g.hosts, host)
}

// hostOf is the host of host:port, or of a host alone, in small letters.
func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "[]")
	}
	return strings.TrimSuffix(strings.ToLower(textproto.TrimString(host)), ".")
}
