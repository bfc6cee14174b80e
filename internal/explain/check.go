package explain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"fleetbridge/bridge/gateway"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// Target is what a payload is held against: a schema and, for a topic or subject, the address.
type Target struct {
	Schema  string
	Address *mapping.Address
	none    none
}

// none is what the bridge makes of a payload without bytes.
type none uint8

const (
	nonePayload none = iota // what it makes of any other
	noneFine                // it is all that there is to say: a handler's SUCCEEDED, a question for the shadow
	noneObject              // {}, and fills the members in
)

// FindTargets reads a channel's name, a topic or a subject. Its errors tell the mend. Only the topic shadow/update is two: report and desired.
func FindTargets(catalog *schemas.Catalog, text, prefix string) ([]Target, error) {
	switch {
	case catalog.Source(text) != nil:
		return []Target{{Schema: text}}, nil
	case serviceSchema(text) != "":
		return []Target{{Schema: serviceSchema(text), none: noneFine}}, nil
	}
	subjects, err := mapping.NewSubjects(prefix)
	if err != nil {
		return nil, fmt.Errorf("--prefix: %s", err)
	}
	if !isTopic(text) && !isSubject(subjects, text) {
		if near := gateway.Closest(text, catalog.Names()); near != "" {
			return nil, fmt.Errorf("there is no channel %q, did you mean %s?", text, near)
		}
		return nil, fmt.Errorf("there is no channel %q; explain lists them, topics begin with $emqx/ and subjects with %s", text, prefix+".")
	}
	found, err := Find(subjects, text)
	if err != nil {
		return nil, err
	}
	var out []Target
	for _, m := range found {
		switch {
		case m.Open():
			return nil, fmt.Errorf("%q is no single channel, name one", text)
		case m.service != "":
			out = append(out, Target{Schema: serviceSchema(m.service), none: noneFine})
		default:
			a := m.address()
			t := Target{Schema: string(a.Channel), Address: &a}
			if asked := strings.HasPrefix(text, prefix+"."+string(mapping.SpaceReq)+"."); asked && m.route.Accepted != "" {
				t.none = noneObject
			}
			out = append(out, t)
		}
	}
	return out, nil
}

// serviceSchema is what the two that are no channel answer with: the shadow document, and a handler's
// reply.
func serviceSchema(service string) string {
	switch service {
	case shadowGet:
		return schemas.ShadowDocument
	case commandHandler:
		return string(mapping.CommandResponse)
	}
	return ""
}

// Choose takes a payload on a topic that is used both ways for the cloud's when only the cloud could
// have written it.
func Choose(targets []Target, payload []byte) Target {
	if len(targets) > 1 && gjson.GetBytes(payload, "state.desired").Exists() && !gjson.GetBytes(payload, "state.reported").Exists() {
		return targets[1]
	}
	return targets[0]
}

// Validation is one payload's check: the channel's schema, its address, the Thing's own schemas.
type Validation struct {
	Target
	Catalog *schemas.Catalog
	Own     *schemas.ThingSchemas
}

// Check makes every check that is possible: a payload that is no JSON is not compared with anything, and of each value only
// one problem is reported.
func (v Validation) Check(payload []byte) ([]schemas.Detail, error) {
	var out []schemas.Detail
	switch {
	case len(payload) > 0:
	case v.none == noneFine || v.Catalog.Check(context.Background(), v.Schema, payload) == nil:
		return nil, nil
	case v.none == noneObject:
		payload = []byte("{}")
	}
	sides := []func([]byte) error{
		func(p []byte) error { return v.Catalog.Check(context.Background(), v.Schema, p) },
		v.checkAddress, v.checkOwn,
	}
	for _, side := range sides {
		err := side(payload)
		broken := (*schemas.Error)(nil)
		switch {
		case err == nil:
			continue
		case !errors.As(err, &broken):
			return nil, err
		}
		for _, d := range broken.Details {
			if !slices.ContainsFunc(out, func(o schemas.Detail) bool { return o.Pointer == d.Pointer }) {
				out = append(out, d)
			}
		}
		if broken.Code != schemas.CodeSchema {
			return out, nil
		}
	}
	return out, nil
}

// checkAddress compares the payload with its address, or looks whether there can be one.
func (v Validation) checkAddress(payload []byte) error {
	switch {
	case v.Address != nil:
		return schemas.CheckAddress(*v.Address, payload)
	case v.Schema == string(mapping.Event):
		return schemas.CheckEventType(payload)
	}
	return nil
}

// checkOwn holds the Thing's part of a payload against the Thing's own schemas.
func (v Validation) checkOwn(payload []byte) error {
	return v.Own.Check(context.Background(), v.Schema, payload)
}

// Warning says what is odd about a payload that is good; empty: nothing.
func (v Validation) Warning(payload []byte) string {
	if at := gjson.GetBytes(payload, "timestamp"); v.Schema == string(mapping.Event) && schemas.LooksLikeSeconds(at) {
		return fmt.Sprintf("/timestamp: %s looks like seconds, it is read as milliseconds: multiply it by 1000", at.Raw)
	}
	return ""
}

// NoneFine reports whether a payload without bytes is all that there is to say.
func (t Target) NoneFine() bool { return t.none == noneFine }

// At is what a payload at an address is held against.
func At(a mapping.Address) Target { return Target{Schema: string(a.Channel), Address: &a} }
