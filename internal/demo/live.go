package demo

import (
	"context"
	"fmt"
	"math"
	"os"
	"strings"
	"time"
)

// reportPause is how often the thermostat reports while the demo stays up.
const reportPause = 5 * time.Second

// live keeps the thermostat reporting and prints what passes, until ctx ends.
func (s *stage) live(ctx context.Context) {
	s.toured.Store(true)
	s.account.try(s.addresses())
	report := time.NewTicker(reportPause)
	defer report.Stop()
	look := time.NewTicker(liveAge / 5) // rows grow old without a change of the journal
	defer look.Stop()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			s.account.printf("\n    stopping\n")
			return
		case <-report.C:
			n++
			celsius := math.Round(10*(21+math.Sin(float64(n)/3))) / 10
			if err := s.thermostat.measure(celsius); err != nil {
				s.journal.warn(thermostatName, err.Error())
			}
		case <-look.C:
			s.account.rows(s.journal.take(liveAge))
		}
	}
}

// liveAge is how long a message waits for its other half before it is printed without.
const liveAge = 500 * time.Millisecond

// self is how this program is called again.
func self() string {
	if path, err := os.Executable(); err == nil && strings.Contains(path, "go-build") {
		return "go run ./cmd/fleetbridge"
	}
	return "fleetbridge"
}

// try prints what to do in another terminal.
func (a *account) try(x addresses) {
	a.printf("\nThe demo stays up, and the thermostat reports every %d s. Try it from another terminal:\n", int(reportPause.Seconds()))
	for _, t := range []struct{ about, line string }{
		{"hear everything that the cloud sends", fmt.Sprintf("nats -s %s sub 'fleets.down.>'", x.nats)},
		{"ask for the shadow", fmt.Sprintf("nats -s %s req fleets.req.%s.shadow.get ''", x.nats, Thing)},
		{"report a state, and get the PubAck", fmt.Sprintf("nats -s %s req fleets.up.%s.shadow.update \\\n       '{\"state\":{\"reported\":{\"door\":\"open\"}}}'", x.nats, Thing)},
		{"send an event that is wrong: it is taken, and does not arrive; the console, or fleetbridge dead ls, says why", fmt.Sprintf("nats -s %s req fleets.up.%s.events.overheated \\\n       '{\"eventType\":\"overheated\",\"severity\":\"warning\"}'", x.nats, Thing)},
		{"be the cloud: set the desired state", fmt.Sprintf("curl -X PATCH %s/api/v1/things/%s/shadow \\\n       -d '{\"desired\":{\"mode\":\"comfort\"}}'", x.fleets, Thing)},
		{"be the cloud: send a command", fmt.Sprintf("curl %s/api/v1/commands \\\n       -d '{\"thingName\":\"%s\",\"action\":\"setTemperature\",\"params\":{\"value\":19},\"ttl\":30}'", x.fleets, Thing)},
		{"see it in a terminal; also status --watch, trace ID, queue ls, dead ls, doctor, and console for another link",
			fmt.Sprintf("export FLEETBRIDGE_CONFIG=%s\n    %s tail", x.config, self())},
	} {
		a.printf("\n    %s\n    %s\n", a.paint(dim, "# "+t.about), t.line)
	}
	a.console(x)
	a.printf("\nCtrl-C ends it.\n\n")
}
