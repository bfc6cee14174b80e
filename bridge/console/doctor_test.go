package console

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
	"fleetbridge/internal/doctor"
)

// examined has the bridge examined, and returns what was found.
func (s *site) examined() doctorAnswer {
	s.t.Helper()
	code, text := s.call(s.token, "POST", base+"doctor", nil)
	if begun := decode[doctorAnswer](s.t, text); code != http.StatusOK || !begun.Running || begun.Began.IsZero() {
		s.t.Fatalf("%d %s", code, text)
	}
	var out doctorAnswer
	s.until("the examination has ended", func() bool {
		out = get[doctorAnswer](s, "doctor")
		return !out.Running
	})
	return out
}

// The console has the bridge examined on demand, by what fleetbridge doctor checks beside a running one.
func TestDoctor(t *testing.T) {
	s := open(t, nil, "the MQTT connection", "connection", "not connected")
	if none := get[doctorAnswer](s, "doctor"); none.Running || len(none.Findings) != 0 || !none.Began.IsZero() {
		t.Errorf("before any: %+v", none)
	}
	has := func(d doctorAnswer, status doctor.Status, check, words string) {
		t.Helper()
		if !slices.ContainsFunc(d.Findings, func(f doctor.Finding) bool {
			return f.Status == status && f.Check == check && strings.Contains(f.String(), words) && (status == doctor.OK || f.Mend != "")
		}) {
			t.Errorf("no %s %s with %q in %+v", status, check, words, d.Findings)
		}
	}
	well := s.examined()
	if !well.Healthy || well.Ended.Before(well.Began) || well.Counts[doctor.OK] == 0 {
		t.Errorf("%+v", well)
	}
	has(well, doctor.OK, "bridge", "examines itself; /readyz says ready")
	has(well, doctor.OK, "tcp", "connected")
	has(well, doctor.OK, "connect", "pump.08: skipped: fleetbridge is running, and says: connected")
	has(well, doctor.OK, "subscribe", "every filter is granted")
	has(well, doctor.OK, "publish", "pump-07: jobs/get through the running fleetbridge is answered by Fleets")
	has(well, doctor.OK, "queues", "FLEETS_DOWN")
	has(well, doctor.OK, "api", "its shadow can be read")
	has(well, doctor.OK, "nats", "embedded: nats-server")
	has(well, doctor.OK, "jetstream", "streams")
	has(well, doctor.OK, "disk", "free")
	if !s.nc.IsConnected() || len(get[list[any]](s, "events").Items) == 0 {
		t.Error("the bridge's own connection was closed")
	}
	s.link.Cut()
	s.until("the bridge has noticed", func() bool { return get[overviewAnswer](s, "overview").Things["connected"] == 0 })
	ill := s.examined()
	if ill.Healthy || ill.Counts[doctor.Fail] < 2 {
		t.Errorf("%+v", ill)
	}
	has(ill, doctor.Fail, "connect", "pump-07: skipped: fleetbridge is running, and says: not connected")
	s.link.Restore()
	s.console.examination.mu.Lock()
	s.console.examination.now.Running = true
	s.console.examination.mu.Unlock()
	if code, text := s.call(s.token, "POST", base+"doctor", nil); code != http.StatusConflict {
		t.Errorf("beside another: %d %s", code, text)
	}
}

// However much there is to find, what is wrong is kept first, and the rest is counted.
func TestFindingsAreBounded(t *testing.T) {
	d := doctorAnswer{}.copied()
	for n := range 3 * maxFindings {
		d.add(doctor.Finding{Status: doctor.OK, Check: "connect", Subject: fmt.Sprint(n)})
	}
	d.add(doctor.Finding{Status: doctor.Fail, Check: "api"})
	if len(d.Findings) != maxFindings+1 || d.Findings[maxFindings].Check != "api" || d.Left != 2*maxFindings || d.Counts[doctor.OK] != 3*maxFindings {
		t.Errorf("%d kept, %d left, %v", len(d.Findings), d.Left, d.Counts)
	}
}

// awaited is a console that says when the bridge waits for it.
type awaited struct {
	*Console
	waits chan struct{}
}

func (a awaited) Wait() {
	close(a.waits)
	a.Console.Wait()
}

// A bridge that stops ends an examination, and waits for its end before it closes what that uses.
func TestStopWaitsForTheExamination(t *testing.T) {
	s := open(t, nil)
	s.stop()
	waits := make(chan struct{})
	s.page = func(c *Console) gateway.Page { return awaited{c, waits} }
	s.start(fleetsim.Log(t))
	if code, text := s.call(s.token, "POST", base+"doctor", nil); code != http.StatusOK {
		t.Fatalf("doctor: %d %s", code, text)
	}
	e := &s.console.examination
	e.mu.Lock() // what is found can't be told meanwhile
	ended := make(chan struct{})
	go func() {
		s.stop()
		close(ended)
	}()
	select {
	case <-waits:
	case <-ended:
		t.Error("the bridge did not wait")
	}
	e.mu.Unlock()
	<-ended
	if e.mu.Lock(); e.now.Running || e.now.Ended.IsZero() {
		t.Errorf("the bridge has stopped, and the examination goes on: %+v", e.now)
	}
	e.mu.Unlock()
	if _, err := s.console.examine(&request{}); err == nil {
		t.Error("another begins after that")
	}
}
