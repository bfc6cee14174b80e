package explain

import (
	"strings"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// Entry is what explain says of one match. Its JSON form is stable: fields are added, not renamed.
type Entry struct {
	Name      string `json:"name"`
	About     string `json:"about"`
	Direction string `json:"direction"` // up or down
	Class     string `json:"class,omitempty"`
	Thing     string `json:"thing"` // {t} when it was left open
	IDName    string `json:"idName,omitempty"`
	ID        string `json:"id,omitempty"`
	Topic     string `json:"topic,omitempty"`
	// Store is the subject that is stored and forwarded, Request the one that is answered, Handler
	// the one that a program serves, Dead where its dead letters are.
	Store    string   `json:"store,omitempty"`
	Request  string   `json:"request,omitempty"`
	Handler  string   `json:"handler,omitempty"`
	Dead     string   `json:"dead,omitempty"`
	Accepted string   `json:"accepted,omitempty"`
	Rejected string   `json:"rejected,omitempty"`
	Identity string   `json:"identity,omitempty"`
	Expiry   float64  `json:"expirySeconds,omitempty"`
	EmptyOK  bool     `json:"emptyOk,omitempty"`
	Schema   string   `json:"schema,omitempty"`
	Rules    []string `json:"rules,omitempty"`
}

// Names that stand in for what was left open while an address is printed. They are plain tokens, so
// both spellings leave them as they are.
const (
	openThing = "fleetbridge--any-thing"
	openID    = "fleetbridge--any-id"
)

// Describe makes the entry of a match.
func Describe(s mapping.Subjects, catalog *schemas.Catalog, m Match) Entry {
	idName := "action"
	if m.route != nil {
		idName = m.route.IDName()
	}
	fill := strings.NewReplacer(openThing, "{t}", openID, "{"+idName+"}").Replace
	if m.thing == "" {
		m.thing = openThing
	}
	if m.id == "" && m.service != shadowGet && idName != "" {
		m.id = openID
	}
	e := Entry{Name: m.name(), Thing: fill(m.thing), IDName: idName, ID: fill(m.id)}
	t := mapping.Thing(m.thing)
	switch m.service {
	case shadowGet:
		e.IDName = ""
		e.About = "ask for the shadow document, from the Fleets HTTP API"
		e.Direction, e.Schema = mapping.Up.String(), schemas.ShadowDocument
		e.Request = fill(s.ShadowGet(t))
	case commandHandler:
		e.About = "serve a command: the cloud's request comes in, the reply is the response"
		e.Direction, e.Class, e.Schema = mapping.Down.String(), mapping.Control.String(), string(mapping.CommandResponse)
		e.Handler = fill(s.Command(t, m.id))
	default:
		e.route(s, m, fill)
	}
	e.Rules = catalog.Rules(e.Schema)
	return e
}

func (e *Entry) route(s mapping.Subjects, m Match, fill func(string) string) {
	r, a := m.route, m.address()
	e.About, e.Direction, e.Class, e.Schema = r.About, r.Direction.String(), r.Class().String(), string(r.Channel)
	e.Topic = fill(a.Topic())
	e.Accepted, e.Rejected, e.Identity = string(r.Accepted), string(r.Rejected), string(r.Identity)
	e.Expiry, e.EmptyOK = r.Expiry.Seconds(), r.EmptyOK
	if r.Direction == mapping.Down {
		e.Store, e.Dead = fill(s.Print(mapping.SpaceDown, a)), fill(s.Print(mapping.SpaceDeadDown, a))
		return
	}
	e.Store, e.Dead = fill(s.Print(mapping.SpaceUp, a)), fill(s.Print(mapping.SpaceDeadUp, a))
	e.Request = fill(s.Print(mapping.SpaceReq, a))
}
