package fleetsim

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// Event is one that a device published. The cloud's real store overwrites events of one type and
// severity within a millisecond; this one keeps both, so that they can be counted.
type Event struct {
	Type      string          `json:"eventType"`
	Severity  string          `json:"severity"`
	Data      json.RawMessage `json:"data,omitempty"`
	Timestamp int64           `json:"timestamp"` // Unix milliseconds: the device's, or else the arrival
	Arrived   time.Time       `json:"arrivedAt"`
}

// event takes one. The lock must be held.
func (s *Sim) event(name, topicType string, doc gjson.Result) error {
	e := Event{Type: member(doc, "eventType").String(), Severity: member(doc, "severity").String(), Data: raw(member(doc, "data")), Arrived: time.Now().UTC()}
	if topicType != "" && e.Type != topicType {
		return invalid("eventType %q is not the topic's %q", e.Type, topicType)
	}
	if err := mapping.CheckID(e.Type); err != nil {
		return invalid("eventType: %v", err)
	}
	if !slices.Contains([]string{"info", "warn", "error"}, e.Severity) {
		return invalid("severity %q is not info, warn or error", e.Severity)
	}
	if e.Data != nil && !member(doc, "data").IsObject() {
		return invalid("data is no object")
	}
	e.Timestamp = e.Arrived.UnixMilli()
	if v := member(doc, "timestamp"); v.Exists() {
		var ok bool
		if e.Timestamp, ok = integer(v); !ok || e.Timestamp < 0 {
			return invalid("timestamp %s is no integer of Unix milliseconds", v.Raw)
		}
	}
	t, err := s.thing(name)
	if err != nil {
		return err
	}
	t.events, t.dropped = bounded(append(t.events, e), s.options.Keep, t.dropped)
	s.log.Info("event", "thing", name, "type", e.Type, "severity", e.Severity)
	s.notify()
	return nil
}

// Events returns a Thing's events in the order of their arrival.
func (s *Sim) Events(name string) []Event {
	s.Lock()
	defer s.Unlock()
	if t, ok := s.things[name]; ok {
		return slices.Clone(t.events)
	}
	return nil
}

// WaitEvents returns a Thing's events once there have been n or more.
func (s *Sim) WaitEvents(ctx context.Context, name string, n int) ([]Event, error) {
	return await(ctx, &s.monitor, "events of "+name, func() ([]Event, bool) {
		t, ok := s.things[name]
		if !ok || t.dropped+len(t.events) < n {
			return nil, false
		}
		return slices.Clone(t.events), true
	})
}
