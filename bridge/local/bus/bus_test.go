package bus

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

func TestBusHeader(t *testing.T) {
	t.Parallel()
	got, err := busHeader(nats.Header{"Kind": {"a", "b"}, "Nats-Service-Error": {"x"}, "Nats-Service-Error-Code": {"400"},
		"Nats-Request-Info": {"{}"}, "Nats-Trace-Dest": {"x"}, "nats-trace-dest": {"x"}, "Nats-Rollup": {"all"}})
	if err != nil || len(got) != 3 || len(got["Kind"]) != 2 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := busHeader(nats.Header{wire.KeyTooMany: {""}}); err == nil {
		t.Error("too many headers pass")
	}
}

func TestCheckBus(t *testing.T) {
	t.Parallel()
	s, err := mapping.NewSubjects("fleets")
	if err != nil {
		t.Fatal(err)
	}
	for subject, want := range map[string]string{
		"app.>": "", "app": "", "x-1.y": "", "fleetsx.>": "", "FLEETS.>": "",
		"fleets.>": "overlaps fleets.>", "fleets.up.x": "overlaps fleets.>", "fleets": "overlaps fleets.>",
		"_INBOX.>": "begin with _", "_fleets.bus.>": "begin with _", "_R_.>": "begin with _", "$JS.API.>": "begin with $", "$SYS.>": "begin with $",
		">": "wildcard before its end", "*.x": "wildcard before its end", "app.*": "wildcard before its end", "app.>.x": "wildcard before its end",
		"": "no subject", "app..x": "no subject", "app x": "no subject", ".app": "no subject",
		"taken.a": `overlaps "taken.>"`,
	} {
		err := Check(s, []string{"taken.>", subject}, 1)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", subject, err, want)
		}
	}
}
