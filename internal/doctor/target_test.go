package doctor

import (
	"net/url"
	"testing"
)

// A proxy, too, may leave its port out.
func TestPort(t *testing.T) {
	for text, want := range map[string]string{
		"mqtts://broker.example.com": "8883", "mqtt://127.0.0.1:1884": "1884", "nats://[::1]": "4222",
		"http://proxy.example.com": "80", "https://proxy.example.com": "443", "socks5://user@proxy.example.com": "1080", "http://proxy:3128": "3128",
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := port(u); got != want {
			t.Errorf("%s: port %q, want %s", text, got, want)
		}
	}
}

// The login of a proxy is not shown, even if something in it, such as a blank, makes it no login.
func TestProxyName(t *testing.T) {
	for text, want := range map[string]string{
		"http://user:secret@proxy:3128": "http://proxy:3128", "http://secret@proxy": "http://proxy",
		"http://http://user:secret%20x@proxy:3128": "http://http:",
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := proxyName(u); got != want {
			t.Errorf("%s is shown as %s", text, got)
		}
	}
}
