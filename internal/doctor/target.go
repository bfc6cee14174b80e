package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"fleetbridge/bridge/cloud"
	"fleetbridge/bridge/gateway"
)

// target is a server that the bridge connects to.
type target struct {
	key    string // of the configuration
	url    *url.URL
	host   string
	port   string
	files  string // the section that names its TLS files
	tls    func() (*tls.Config, error)
	secure bool
	proxy  *url.URL // it is reached through this one
}

func (t target) name() string { return net.JoinHostPort(t.host, t.port) }

// otherPorts are those of schemes that are no broker's.
var otherPorts = map[string]string{
	"http": "80", "https": "443", "nats": "4222", "tls": "4222",
	"socks5": "1080", "socks5h": "1080", // of proxies
}

// port is the one of a URL, or its scheme's.
func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if p, broker := cloud.DefaultPort(u.Scheme); broker {
		return p
	}
	return otherPorts[u.Scheme]
}

// targets lists the broker's servers, the Fleets HTTP API and an external NATS server.
func (d *Doctor) targets() []target {
	var out []target
	add := func(key, text, files string, names gateway.TLS) {
		u, err := url.Parse(text)
		if err != nil {
			return // the configuration is validated
		}
		t := target{key: key, url: u, host: u.Hostname(), port: port(u), files: files, tls: names.Client}
		switch u.Scheme {
		case "mqtts", "wss", "https":
			t.secure = true
		}
		t.proxy = proxyOf(u)
		out = append(out, t)
	}
	for _, s := range d.cfg.MQTT.Server {
		add("mqtt.server", s, "mqtt.tls", d.cfg.MQTT.TLS)
	}
	if d.cfg.Fleets.URL != "" {
		add("fleets.url", d.cfg.Fleets.URL, "fleets.tls", d.cfg.Fleets.TLS)
	}
	if !d.embedded() {
		for s := range strings.SplitSeq(string(d.cfg.NATS.URL), ",") {
			add("nats.url", s, "nats.tls", d.cfg.NATS.TLS) // its TLS begins later: the check nats covers it
		}
	}
	return out
}

// proxyOf is the proxy that the environment names for a URL, as the bridge's own connections use it.
func proxyOf(u *url.URL) *url.URL {
	scheme := map[string]string{"ws": "http", "wss": "https", "http": "http", "https": "https"}[u.Scheme]
	if scheme == "" {
		return nil
	}
	proxy, _ := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: scheme, Host: u.Host}})
	return proxy
}

// proxyName is a proxy's URL without the login, which may be anywhere in it when it is misspelled.
func proxyName(u *url.URL) string { return u.Scheme + "://" + u.Host }

// network checks names, connections and certificates. Of several servers of one key one is enough: the
// others are warnings then.
func (d *Doctor) network(ctx context.Context, targets []target) {
	for _, step := range []struct {
		check string
		look  func(context.Context, target) Finding
	}{{checkDNS, d.resolve}, {checkTCP, d.dial}, {checkTLS, d.handshake}} {
		if d.over(ctx, step.check) {
			continue
		}
		found, good := make([]Finding, len(targets)), map[string]bool{}
		for i, t := range targets {
			limited, cancel := d.step(ctx)
			found[i] = step.look(limited, t)
			cancel()
			good[t.key] = good[t.key] || found[i].Status == OK
		}
		for i, f := range found {
			if f.Status == Fail && good[targets[i].key] {
				f.Status = Warn
				f.Detail += " (another server of " + targets[i].key + " works)"
			}
			d.add(f)
		}
	}
}

func (d *Doctor) resolve(ctx context.Context, t target) Finding {
	f := Finding{Check: checkDNS, Subject: t.host}
	switch {
	case t.proxy != nil:
		f.Status, f.Detail = Skip, "is left to the proxy "+proxyName(t.proxy)
		return f
	case net.ParseIP(t.host) != nil:
		f.Status, f.Detail = OK, "is an address"
		return f
	}
	began := time.Now()
	addresses, err := net.DefaultResolver.LookupHost(ctx, t.host)
	if err != nil {
		f.Status, f.Mend = Fail, "check the name in "+t.key+", and this machine's DNS"
		f.Detail = "not found"
		if named := (*net.DNSError)(nil); !errors.As(err, &named) || !named.IsNotFound {
			f.Detail = err.Error()
		}
		return f
	}
	const most = 4
	shown := strings.Join(addresses[:min(len(addresses), most)], ", ")
	if len(addresses) > most {
		shown += fmt.Sprintf(" and %d more", len(addresses)-most)
	}
	f.Status, f.Detail = OK, fmt.Sprintf("%s (%s)", shown, brief(time.Since(began)))
	return f
}

func (d *Doctor) dial(ctx context.Context, t target) Finding {
	f := Finding{Check: checkTCP, Subject: t.name()}
	address := t.name()
	if t.proxy != nil {
		address = net.JoinHostPort(t.proxy.Hostname(), port(t.proxy))
	}
	began := time.Now()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		f.Status, f.Detail = Fail, cause(err)
		f.Mend = "check host and port in " + t.key + ", and whether a firewall lets this machine through"
		if named := (*net.DNSError)(nil); errors.As(err, &named) {
			f.Status, f.Detail, f.Mend = Skip, "needs dns", ""
		}
		return f
	}
	defer conn.Close()
	d.reached[t.name()] = true
	f.Status, f.Detail = OK, fmt.Sprintf("connected to %s (%s)", conn.RemoteAddr(), brief(time.Since(began)))
	if t.proxy != nil {
		f.Detail = "through the proxy " + proxyName(t.proxy) + ", which is reached"
	}
	return f
}

// cause is the last part of a network error, which says what is wrong.
func cause(err error) string {
	var op *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &op) && op.Err != nil:
		return op.Err.Error()
	}
	return err.Error()
}

// brief rounds a duration for reading.
func brief(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
