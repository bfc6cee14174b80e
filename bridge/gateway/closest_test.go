package gateway

import "testing"

func TestClosest(t *testing.T) {
	t.Parallel()
	known := []string{"keep_alive", "server", "tls", "receive_maximum", "url", "name", "warn"}
	for word, want := range map[string]string{
		"keepalive": "keep_alive", "keep-alive": "keep_alive", "KeepAlive": "keep_alive", "sever": "server", "servers": "server",
		"ssl": "tls", "recieve_maximum": "receive_maximum", "max": "", "uri": "url", "nmae": "name", "warning": "warn",
		"": "", "x": "", "completely different": "", "prefix": "",
	} {
		if got := Closest(word, known); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}
