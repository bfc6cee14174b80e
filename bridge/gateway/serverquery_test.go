package gateway

import (
	"strings"
	"testing"
)

// A query is what ws and wss may have, and no error quotes it: it may be a token.
func TestServerQuery(t *testing.T) {
	t.Parallel()
	if got, err := ParseServer("wss://broker.example.com/mqtt?token=t0k3n&a=b"); err != nil || got != "wss://broker.example.com:443/mqtt?token=t0k3n&a=b" {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{
		"mqtts://broker.example.com?token=t0k3n", "broker.example.com?token=t0k3n", "http://broker.example.com?token=t0k3n", "wss://?token=t0k3n",
		"wss://broker.example.com:99999?token=t0k3n", "wss://broker.example.com?token=t0k3n with blanks", "wss://broker.example.com?t0k3n#fragment",
	} {
		if got, err := ParseServer(bad); err == nil || strings.Contains(err.Error(), "t0k3n") {
			t.Errorf("%s: %q, %v", bad, got, err)
		}
	}
}
