package fleetsim

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/tidwall/gjson"
)

// ThingType is a template that says what Things of a kind report, send and do. Nothing is checked by it, as in Fleets.
type ThingType struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Version     string          `json:"version"`
	Description string          `json:"description"`
	Tags        json.RawMessage `json:"tags"`
	Schema      json.RawMessage `json:"schema"` // as it was sent: properties, events, commands and others
	CreatedAt   time.Time       `json:"createdAt"`
	UpdatedAt   time.Time       `json:"updatedAt"`
}

// SetThingType registers a Thing Type, or replaces the one of this name. The document is JSON as Fleets has it.
func (s *Sim) SetThingType(document []byte) (ThingType, error) {
	doc, err := parseObject(document)
	if err != nil {
		return ThingType{}, invalid("Thing Type %v", err)
	}
	s.Lock()
	defer s.Unlock()
	return s.setThingType(doc)
}

func (s *Sim) setThingType(doc gjson.Result) (ThingType, error) {
	name, schema := member(doc, "name"), member(doc, "schema")
	if name.Type != gjson.String || name.Str == "" {
		return ThingType{}, invalid("name is missing")
	}
	if schema.Exists() && !schema.IsObject() {
		return ThingType{}, invalid("schema is no object")
	}
	now := time.Now().UTC()
	t := ThingType{ID: newUUID(), Name: name.Str, Version: "1.0.0", Description: member(doc, "description").String(),
		Tags: json.RawMessage("[]"), Schema: json.RawMessage("{}"), CreatedAt: now, UpdatedAt: now}
	if v := member(doc, "version"); v.Exists() {
		t.Version = v.String()
	}
	if v := member(doc, "tags"); v.IsArray() {
		t.Tags = raw(v)
	}
	if schema.Exists() {
		t.Schema = raw(schema)
	}
	if before, there := s.thingTypes[t.Name]; there {
		t.ID, t.CreatedAt = before.ID, before.CreatedAt
	}
	s.thingTypes[t.Name] = t
	s.log.Info("thing type set", "thing_type", t.Name, "version", t.Version)
	return t, nil
}

// thingTypeByKey finds a Thing Type by its name or its id. The lock must be held.
func (s *Sim) thingTypeByKey(key string) (ThingType, error) {
	if t, there := s.thingTypes[key]; there {
		return t, nil
	}
	for _, t := range s.thingTypes {
		if t.ID == key {
			return t, nil
		}
	}
	return ThingType{}, notFound("thing type %s is not registered", key)
}

func (s *Sim) postThingType(c call) (int, any, error) {
	s.Lock()
	defer s.Unlock()
	if name := c.text("name"); s.thingTypes[name].Name != "" {
		return 0, nil, &Refusal{Status: http.StatusConflict, Code: "ResourceAlreadyExists", Message: "thing type " + name + " exists already"}
	}
	t, err := s.setThingType(c.doc)
	return http.StatusCreated, t, err
}

func (s *Sim) putThingType(c call) (int, any, error) {
	s.Lock()
	defer s.Unlock()
	t, err := s.thingTypeByKey(c.PathValue("type"))
	if err == nil && c.text("name") != t.Name {
		err = invalid("name is %q, the Thing Type is %q", c.text("name"), t.Name)
	}
	if err == nil {
		t, err = s.setThingType(c.doc)
	}
	return http.StatusOK, t, err
}

func (s *Sim) getThingType(c call) (int, any, error) {
	s.Lock()
	defer s.Unlock()
	t, err := s.thingTypeByKey(c.PathValue("type"))
	return http.StatusOK, t, err
}
