package gateway

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"fleetbridge/bridge/cloud"
)

// otherSchemes are what other clients call the same.
var otherSchemes = map[string]string{"tcp": "mqtt", "ssl": "mqtts", "tls": "mqtts", "tcps": "mqtts", "http": "ws", "https": "wss"}

// ParseServer checks a broker's URL and returns it with its port. A URL that carries a login is
// never quoted.
func ParseServer(text string) (string, error) {
	if strings.Contains(text, "@") {
		return "", errors.New("carries a login, which belongs in things[].username and things[].password_file")
	}
	if base, query, ok := strings.Cut(text, "?"); ok { // it is not quoted: it may be a token
		if !strings.HasPrefix(strings.ToLower(base), "ws://") && !strings.HasPrefix(strings.ToLower(base), "wss://") {
			return "", fmt.Errorf("%q has a query, which only ws and wss know: remove it", base)
		}
		checked, err := ParseServer(base)
		if err == nil && strings.ContainsFunc(query, notInQuery) {
			err = fmt.Errorf("%q has a query that can't be read; write what it has in it as %%XX", base)
		}
		return checked + "?" + query, err
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme = "mqtt"
		if strings.HasSuffix(text, ":8883") {
			scheme = "mqtts"
		}
		if text == "" {
			text = "broker.example.com:1883"
			return "", fmt.Errorf("is empty, write %s://%s", scheme, text)
		}
		return "", fmt.Errorf("%q has no scheme, write %s://%s", text, scheme, text)
	}
	port, known := cloud.DefaultPort(strings.ToLower(scheme))
	if !known {
		if near := otherSchemes[strings.ToLower(scheme)]; near != "" {
			return "", fmt.Errorf("%q: the scheme %s is called %s here, write %s://%s", text, scheme, near, near, rest)
		}
		return "", fmt.Errorf("%q has the unknown scheme %s, write mqtt, mqtts, ws or wss", text, scheme)
	}
	u, err := parseURL(text)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(u.Scheme, "mqtt") {
		if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return "", fmt.Errorf("%q has a path, which only ws and wss know: remove it", text)
		}
		u.Path = ""
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	return u.String(), nil
}

// notInQuery is what a URL's query has as %XX only. A # begins a fragment.
func notInQuery(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }

// checkHTTP checks a base URL. plain reports whether it is not encrypted. login names the keys where a login belongs.
func checkHTTP(text, login string) (plain bool, err error) {
	if strings.Contains(text, "@") {
		return false, errors.New("carries a login, which belongs in " + login)
	}
	if strings.Contains(text, "?") { // it is not quoted: it may be a token
		return false, errors.New("has a query, remove it; a login belongs in " + login)
	}
	if !strings.Contains(text, "://") {
		return false, fmt.Errorf("%q has no scheme, write https://%s", text, text)
	}
	u, err := parseURL(text)
	switch {
	case err != nil:
		return false, err
	case u.Scheme != "https" && u.Scheme != "http":
		return false, fmt.Errorf("%q has the scheme %s, write https", text, u.Scheme)
	}
	return u.Scheme == "http", nil
}

// ParseNATS checks one or more NATS URLs joined by commas; a URL without a scheme is nats. They may
// carry a login, so they are never quoted.
func ParseNATS(text string) (string, error) {
	var out []string
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if !strings.Contains(part, "://") {
			part = "nats://" + part
		}
		scheme, _, _ := strings.Cut(part, "://")
		switch scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return "", fmt.Errorf("has the unknown scheme %q, write nats, tls, ws or wss", scheme)
		}
		if u, err := url.Parse(part); err != nil || u.Hostname() == "" || !portOK(u.Port()) {
			return "", errors.New("is no URL with a host, write nats://host:4222")
		}
		out = append(out, part)
	}
	return strings.Join(out, ","), nil
}

func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if inner := (*url.Error)(nil); errors.As(err, &inner) {
		err = inner.Err
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is no URL: %w", text, err)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q has no host, write %s://HOST:PORT", text, u.Scheme)
	case !portOK(u.Port()):
		return nil, fmt.Errorf("%q has the port %s, write 1 to 65535", text, u.Port())
	case u.Fragment != "":
		return nil, fmt.Errorf("%q has a fragment, remove it", text)
	}
	return u, nil
}

func portOK(port string) bool {
	if port == "" {
		return true
	}
	n, err := strconv.Atoi(port)
	return err == nil && n > 0 && n <= 65535
}
