package fleetstest_test

import (
	"strings"
	"testing"

	"fleetbridge/bridge/fleetstest"
)

func TestParseBroker(t *testing.T) {
	for _, good := range []string{"mqtt://h:1", "mqtts://h", "ws://h:1/mqtt", "wss://u:p@h/mqtt"} {
		if _, err := fleetstest.ParseBroker(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "h:1", "http://h", "mqtt://", "tcp://u:hidden@h", "mqtt://u:hidden@h:port"} {
		if _, err := fleetstest.ParseBroker(bad); err == nil || strings.Contains(err.Error(), "hidden") || !strings.Contains(err.Error(), "mqtt://host:port") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The simulator logs in at the external broker with what the URL holds.
func TestBrokerUserInURL(t *testing.T) {
	b := newBroker(t, fleetstest.BrokerOptions{Logins: []fleetstest.Login{{Username: "u", Password: "p"}}})
	start(t, fleetstest.Options{Broker: strings.Replace(b.URL(), "mqtt://", "mqtt://u:p@", 1)})
}
