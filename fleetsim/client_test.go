package fleetsim_test

import (
	"strings"
	"testing"

	"fleetbridge/fleetsim"
)

func TestParseBroker(t *testing.T) {
	for _, good := range []string{"mqtt://h:1", "mqtts://h", "ws://h:1/mqtt", "wss://u:p@h/mqtt"} {
		if _, err := fleetsim.ParseBroker(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "h:1", "http://h", "mqtt://", "tcp://u:hidden@h", "mqtt://u:hidden@h:port"} {
		if _, err := fleetsim.ParseBroker(bad); err == nil || strings.Contains(err.Error(), "hidden") || !strings.Contains(err.Error(), "mqtt://host:port") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The simulator logs in at the external broker with what the URL holds.
func TestBrokerUserInURL(t *testing.T) {
	b := newBroker(t, fleetsim.BrokerOptions{Logins: []fleetsim.Login{{Username: "u", Password: "p"}}})
	start(t, fleetsim.Options{Broker: strings.Replace(b.URL(), "mqtt://", "mqtt://u:p@", 1)})
}
