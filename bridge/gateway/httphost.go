package gateway

import (
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
)

// onlyKnownHosts refuses requests that come on a loopback address under a name that is not this machine's: a web page
// whose name leads to loopback would have the browser of somebody here read the pages. On other addresses any name is
// good, as a container's is.
func onlyKnownHosts(listen string, h http.Handler) http.Handler {
	known := []string{"", "localhost", hostOf(listen)}
	if name, err := os.Hostname(); err == nil {
		known = append(known, strings.ToLower(name))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostOf(r.Host)
		at, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if !onLoopback(at) || net.ParseIP(host) != nil || slices.Contains(known, host) || strings.HasSuffix(host, ".localhost") {
			h.ServeHTTP(w, r)
			return
		}
		http.Error(w, "the name in the header Host is none of this machine's: ask for localhost, for an address, or for the name in http.listen", http.StatusMisdirectedRequest)
	})
}

// hostOf is the host of host:port, or of a host alone, in small letters.
func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "[]")
	}
	host, _, _ = strings.Cut(host, "%")
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

func onLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
