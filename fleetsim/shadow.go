package fleetsim

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// Shadow is a Thing's shadow document as the HTTP API shows it. A part that was never set is nil.
type Shadow struct {
	Reported  json.RawMessage `json:"reported"`
	Desired   json.RawMessage `json:"desired"`
	Delta     json.RawMessage `json:"delta"`
	Version   int64           `json:"version"`
	UpdatedAt time.Time       `json:"updatedAt,omitzero"`
}

type shadow struct {
	reported, desired []byte
	version           int64
	updated           time.Time
	desiredAt         map[string]int64 // JSON pointer of a desired leaf → Unix seconds of its last write
}

func (s *shadow) document() Shadow {
	d := Shadow{Reported: s.reported, Desired: s.desired, Version: s.version, UpdatedAt: s.updated}
	if s.desired != nil {
		d.Delta = Delta(s.desired, s.reported)
	}
	return d
}

// changed counts a write of either side.
func (s *shadow) changed() {
	s.version++
	s.updated = time.Now().UTC()
}

// Shadow returns a Thing's shadow.
func (s *Sim) Shadow(name string) (Shadow, error) {
	s.Lock()
	defer s.Unlock()
	t, err := s.thing(name)
	if err != nil {
		return Shadow{}, err
	}
	return t.shadow.document(), nil
}

// PatchDesired merges a patch (RFC 7396) into a Thing's desired state, pushes it on shadow/update
// and what differs from reported, if anything does, on shadow/update/delta, and returns the new
// version. The Thing may be given by name or id.
func (s *Sim) PatchDesired(name string, patch []byte) (version int64, err error) {
	doc, err := parseObject(patch)
	if err != nil {
		return 0, invalid("desired %v", err)
	}
	s.Lock()
	defer s.Unlock()
	t, err := s.thingByKey(name)
	if err != nil {
		return 0, err
	}
	defer s.notify()
	now := time.Now().Unix()
	if t.shadow.desiredAt == nil {
		t.shadow.desiredAt = map[string]int64{}
	}
	stamps(doc, "", func(leaf string) int64 { t.shadow.desiredAt[leaf] = now; return now })
	t.shadow.desired = mapping.Merge(t.shadow.desired, patch)
	t.shadow.changed()
	s.log.Info("desired", "thing", t.Name, "version", t.shadow.version)
	push := json.RawMessage(patch)
	if s.options.WholeDesired {
		push = t.shadow.desired
	}
	s.pushDesired(t, push)
	s.pushDelta(t)
	return t.shadow.version, nil
}

// ClearDesired empties a Thing's desired state and pushes {"state":{"desired":null}}.
func (s *Sim) ClearDesired(name string) (version int64, err error) {
	s.Lock()
	defer s.Unlock()
	t, err := s.thingByKey(name)
	if err != nil {
		return 0, err
	}
	defer s.notify()
	t.shadow.desired, t.shadow.desiredAt = nil, nil
	t.shadow.changed()
	s.log.Info("desired cleared", "thing", t.Name, "version", t.shadow.version)
	s.pushDesired(t, json.RawMessage("null"))
	return t.shadow.version, nil
}

func (s *Sim) pushDesired(t *thing, desired json.RawMessage) {
	type state struct {
		Desired json.RawMessage `json:"desired"`
	}
	s.down(t, mapping.ShadowDesired, "", struct {
		State   state `json:"state"`
		Version int64 `json:"version"`
	}{state{desired}, t.shadow.version})
}

// pushDelta publishes the delta unless it is empty.
func (s *Sim) pushDelta(t *thing) {
	delta := Delta(t.shadow.desired, t.shadow.reported)
	if bytes.Equal(delta, []byte("{}")) {
		return
	}
	s.log.Info("delta", "thing", t.Name, "version", t.shadow.version)
	now := time.Now().Unix()
	at := func(leaf string) int64 {
		if n, ok := t.shadow.desiredAt[leaf]; ok {
			return n
		}
		return now
	}
	s.down(t, mapping.ShadowDelta, "", struct {
		Version   int64           `json:"version"`
		Timestamp int64           `json:"timestamp"`
		State     json.RawMessage `json:"state"`
		Metadata  json.RawMessage `json:"metadata"`
	}{t.shadow.version, now, delta, stamps(gjson.ParseBytes(delta), "", at)})
}

// down sends a payload on one of a Thing's channels.
func (s *Sim) down(t *thing, c mapping.Channel, id string, payload any) {
	a := mapping.Address{Thing: mapping.Thing(t.Name), Channel: c, ID: id}
	s.send(outgoing{topic: a.Topic(), payload: encode(payload)})
}

// report takes a report of the device's state. The lock must be held.
func (s *Sim) report(name string, doc gjson.Result) (version int64, err error) {
	state := member(doc, "state")
	reported := member(state, "reported")
	switch {
	case !state.IsObject():
		return 0, invalid("state is missing or no object")
	case !reported.IsObject():
		return 0, invalid("state.reported is missing or no object")
	case member(state, "desired").Exists():
		return 0, invalid("state.desired is not a device's to write")
	}
	t, err := s.thing(name)
	if err != nil {
		return 0, err
	}
	if v := member(doc, "version"); v.Exists() {
		switch n, ok := integer(v); {
		case !ok || n < 0:
			return 0, invalid("version %s is no integer of 0 or more", v.Raw)
		case n != 0 && n != t.shadow.version:
			s.log.Info("report rejected", "thing", name, "expected", n, "version", t.shadow.version)
			return 0, conflict("version %d is not the shadow's version %d", n, t.shadow.version)
		}
	}
	if s.options.ReplaceReported {
		t.shadow.reported = []byte(reported.Raw)
	} else {
		t.shadow.reported = mapping.Merge(t.shadow.reported, []byte(reported.Raw))
	}
	t.shadow.changed()
	s.log.Info("report", "thing", name, "version", t.shadow.version)
	s.notify()
	if s.options.RepublishDelta {
		s.pushDelta(t)
	}
	return t.shadow.version, nil
}

// WaitReported returns the reported state once match accepts it. match must not call the simulator;
// it sees nil as long as nothing was reported.
func (s *Sim) WaitReported(ctx context.Context, name string, match func(reported []byte) bool) ([]byte, error) {
	return await(ctx, &s.monitor, "the reported state of "+name, func() ([]byte, bool) {
		t, ok := s.things[name]
		if !ok || !match(t.shadow.reported) {
			return nil, false
		}
		return bytes.Clone(t.shadow.reported), true
	})
}
