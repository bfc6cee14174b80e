package schemas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// Whatever comes in, Check answers: nil, or an error that can be shown and stored, and the same
// answer again. Nodes and library agree on it, and so they do on what a Thing adds.
func FuzzCheck(f *testing.F) {
	c := catalog(f)
	names := c.Names()
	for i, name := range names {
		for _, kind := range []string{"valid", "invalid"} {
			for _, path := range cases(f, kind)[name] {
				payload, err := os.ReadFile(path)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(uint8(i), payload)
			}
		}
	}
	thing, err := c.LoadThing(write(f, thermostat))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, which uint8, payload []byte) {
		name := names[int(which)%len(names)]
		if Guard(payload, Limits{}) == nil {
			errs := []error{thing.checkPart(context.Background(), thing.reported, payload), thing.checkPart(context.Background(), thing.events["highTemperature"], payload), thing.checkPart(context.Background(), thing.commands["setTemperature"], payload)}
			for _, err := range errs {
				if e := (*Error)(nil); err != nil && (!errors.As(err, &e) || e.Code != CodeSchema) {
					t.Fatalf("%q: %v", payload, err)
				}
			}
			if got, want := thing.Check(context.Background(), name, payload), thingByLibrary(thing, name, payload); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%s %q: %v, by the library %v", name, payload, got, want)
			}
		}
		agree(t, c.channels[name].checker, []byte(name), payload)
		err := c.Check(context.Background(), name, payload)
		if err == nil {
			return
		}
		var e *Error
		if !errors.As(err, &e) || len(e.Details) == 0 {
			t.Fatalf("%s %q: %#v", name, payload, err)
		}
		if (Guard(payload, Limits{}) == nil) != (e.Code == CodeSchema) {
			t.Fatalf("%s %q: code %s", name, payload, e.Code)
		}
		for _, d := range e.Details {
			if d.Message == "" || d.Pointer != "" && d.Pointer[0] != '/' || !utf8.ValidString(d.Pointer) {
				t.Fatalf("%s %q: %+v", name, payload, d)
			}
		}
		line := e.Error()
		if !utf8.ValidString(line) || strings.ContainsAny(line, "\n\r\x00") {
			t.Fatalf("%s %q: line %q", name, payload, line)
		}
		if again := c.Check(context.Background(), name, payload); again == nil || again.Error() != line {
			t.Fatalf("%s %q: first %s, then %v", name, payload, line, again)
		}
	})
}

// thingByLibrary is ThingSchemas.Check without scanner and nodes.
func thingByLibrary(thing *ThingSchemas, channel string, payload []byte) error {
	text := func(path string) string { return gjson.GetBytes(payload, path).String() }
	var c *checker
	var part, raw string
	switch mapping.Channel(channel) {
	case mapping.ShadowReport:
		c, part = thing.reported, PartReported
		raw = string(mapping.Merge(nil, []byte(gjson.GetBytes(payload, "state.reported").Raw)))
	case mapping.Event:
		c, part, raw = thing.events[text("eventType")], PartData, gjson.GetBytes(payload, "data").Raw
	case mapping.CommandRequest:
		c, part, raw = thing.commands[text("action")], PartParams, gjson.GetBytes(payload, "params").Raw
	}
	if c == nil {
		return nil
	}
	if raw = string(bytes.TrimSpace([]byte(raw))); raw == "" || raw == "null" {
		raw = "{}"
	}
	return Under(part, c.full.check(context.Background(), []byte(raw), librarySteps))
}
