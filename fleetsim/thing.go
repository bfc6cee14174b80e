package fleetsim

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"fleetbridge/mapping"
)

// Thing is a registered device.
type Thing struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	ClientID  string    `json:"mqttClientId"`
	CreatedAt time.Time `json:"createdAt"`
}

type thing struct {
	Thing
	shadow  shadow
	events  []Event
	dropped int             // events forgotten, oldest first
	pending []*JobExecution // in the order in which they were queued
}

// CreateThing registers a Thing whose MQTT client id is its name.
func (s *Sim) CreateThing(name string) (Thing, error) { return s.createThing(name, name) }

func (s *Sim) createThing(name, clientID string) (Thing, error) {
	if _, err := mapping.ParseThing(name); err != nil {
		return Thing{}, invalid("%v", err)
	}
	s.Lock()
	defer s.Unlock()
	if _, ok := s.things[name]; ok {
		return Thing{}, &Refusal{Status: http.StatusConflict, Code: "ResourceAlreadyExists", Message: "thing " + name + " exists already"}
	}
	return s.addThing(name, clientID).Thing, nil
}

func (s *Sim) addThing(name, clientID string) *thing {
	t := &thing{Thing: Thing{ID: newUUID(), Name: name, ClientID: clientID, CreatedAt: time.Now().UTC()}}
	s.things[name] = t
	s.log.Info("thing created", "thing", name)
	s.notify()
	return t
}

// Things lists what is registered, by name.
func (s *Sim) Things() []Thing {
	s.Lock()
	defer s.Unlock()
	out := make([]Thing, 0, len(s.things))
	for _, t := range s.things {
		out = append(out, t.Thing)
	}
	slices.SortFunc(out, func(a, b Thing) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// thing finds a Thing by name, or registers it if it may. The lock must be held.
func (s *Sim) thing(name string) (*thing, error) {
	if t, ok := s.things[name]; ok {
		return t, nil
	}
	if _, err := mapping.ParseThing(name); err == nil && s.options.AutoCreate {
		return s.addThing(name, name), nil
	}
	return nil, notFound("thing %s is not registered", name)
}

// thingByKey finds a Thing by its id or its name. The lock must be held.
func (s *Sim) thingByKey(key string) (*thing, error) {
	for _, t := range s.things {
		if t.ID == key {
			return t, nil
		}
	}
	return s.thing(key)
}
