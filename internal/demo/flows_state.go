package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

// Flows of the connection, the shadow and events.

// clock is how times are printed.
const clock = "15:04:05.000"

func (s *stage) connect(ctx context.Context) error {
	filters := mapping.Filters(Thing, false)
	for i, f := range filters {
		if err := s.sim.Broker().WaitSubscribed(ctx, Thing, f.Topic); err != nil {
			return missing("subscriptions at the broker", fmt.Sprint(len(filters)), fmt.Sprintf("%d and not %s", i, f.Topic))
		}
	}
	get := "/api/v1/thing-datas/" + Thing + "/shadow"
	if _, err := s.sim.WaitRequests(ctx, "GET", get, 1); err != nil {
		return missing("the startup procedure", "GET "+get, "no request")
	}
	if _, err := s.status(ctx, "connected, subscribed, shadow known", ready); err != nil {
		return err
	}
	if err := s.arrives(ctx, "jobs/get", nil); err != nil {
		return err
	}
	code, err := s.readyz(ctx)
	if err != nil {
		return err
	}
	if err := expect("/readyz", 200, code); err != nil {
		return err
	}
	s.tick(ctx, "connected, %d of %d filters subscribed, shadow fetched, jobs asked for; /readyz says %d", len(filters), len(filters), code)
	return nil
}

func (s *stage) report(ctx context.Context) error {
	if err := s.thermostat.report(`{"temperature":20.5,"targetTemperature":21}`); err != nil {
		return err
	}
	if err := s.reported(ctx, `{"temperature":20.5,"targetTemperature":21}`); err != nil {
		return err
	}
	s.tick(ctx, "the program had its PubAck, and the cloud's shadow has the state")
	return nil
}

func (s *stage) mergedReports(ctx context.Context) error {
	if _, err := s.publish(ctx, hygrometerName, "shadow.update", `{"state":{"reported":{"humidity":58}}}`); err != nil {
		return err
	}
	if err := s.reported(ctx, `{"temperature":20.5,"targetTemperature":21,"humidity":58}`); err != nil {
		return err
	}
	if err := s.thermostat.measure(20.7); err != nil {
		return err
	}
	if err := s.reported(ctx, `{"temperature":20.7,"targetTemperature":21,"humidity":58}`); err != nil {
		return err
	}
	s.tick(ctx, "the cloud has both programs' parts, although this cloud forgets what a report leaves out")
	return nil
}

func (s *stage) event(ctx context.Context) error {
	before := time.Now()
	if err := s.thermostat.measure(45.2); err != nil {
		return err
	}
	events, err := s.sim.WaitEvents(ctx, Thing, 1)
	if err != nil {
		return missing("events in the cloud", "1", "none")
	}
	e := events[len(events)-1]
	if err := expect("the event", `tooHot warn {"celsius":45.2}`, fmt.Sprintf("%s %s %s", e.Type, e.Severity, e.Data)); err != nil {
		return err
	}
	at := time.UnixMilli(e.Timestamp)
	topic := mapping.Address{Thing: Thing, Channel: mapping.Event, ID: e.Type}.Topic()
	sent, err := s.sim.WaitPublish(ctx, func(p fleetsim.Publish) bool { return p.Topic == topic })
	if err != nil {
		return err
	}
	if err := expect("the timestamp in the payload", e.Timestamp, gjson.GetBytes(sent.Payload, "timestamp").Int()); err != nil {
		return err
	}
	if at.Before(before.Truncate(time.Millisecond)) || at.After(time.Now()) {
		return expect("the event's time", "the time of publishing, "+before.Format(clock), at.Format(clock))
	}
	if err := s.reported(ctx, `{"temperature":45.2}`); err != nil {
		return err
	}
	s.tick(ctx, "the cloud has the event with the time at which it was published, and the reading")
	return nil
}

func (s *stage) desired(ctx context.Context) error {
	if _, err := s.sim.PatchDesired(Thing, []byte(`{"mode":"eco"}`)); err != nil {
		return err
	}
	if err := s.reported(ctx, `{"mode":"eco"}`); err != nil {
		return err
	}
	shadow, err := s.sim.Shadow(Thing)
	if err != nil {
		return err
	}
	if err := expect("what is desired and not yet reported", "{}", string(shadow.Delta)); err != nil {
		return err
	}
	s.tick(ctx, "the thermostat reports mode eco; desired and reported agree, no delta is left")
	return nil
}

func (s *stage) shadowGet(ctx context.Context) error {
	answer, code, err := s.request(ctx, dashboardName, "shadow.get", "")
	if err != nil {
		return err
	}
	shadow, err := s.sim.Shadow(Thing)
	if err != nil {
		return err
	}
	doc := gjson.ParseBytes(answer.Data)
	for _, c := range []struct{ what, want, got string }{
		{"the error code", "", code},
		{"reported", string(shadow.Reported), doc.Get("reported").Raw},
		{"desired", string(shadow.Desired), doc.Get("desired").Raw},
		{"version", fmt.Sprint(shadow.Version), doc.Get("version").Raw},
	} {
		if err := expect(c.what+" in the answer", c.want, c.got); err != nil {
			return err
		}
	}
	s.tick(ctx, "it is the cloud's, version %d", shadow.Version)
	s.sim.SetHTTPFault(&fleetsim.HTTPFault{Down: true})
	defer s.sim.SetHTTPFault(nil)
	if answer, code, err = s.request(ctx, dashboardName, "shadow.get", ""); err != nil {
		return err
	}
	if err := expect("the error code", "", code); err != nil {
		return err
	}
	if err := expect("the header Fleets-Stale", "true", answer.Header.Get("Fleets-Stale")); err != nil {
		return err
	}
	if !sameJSON([]byte(gjson.GetBytes(answer.Data, "reported").Raw), shadow.Reported) {
		return expect("the last known reported state", string(shadow.Reported), gjson.GetBytes(answer.Data, "reported").Raw)
	}
	s.tick(ctx, "with the HTTP API away it is the last known one, and says so: Fleets-Stale")
	return nil
}
