package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// costly has a schema whose alternatives multiply, for an event and for a command.
func costly(t *testing.T) (*schemas.Catalog, *schemas.ThingSchemas) {
	t.Helper()
	c, dir := catalog(t), t.TempDir()
	for _, name := range []string{"events/e.schema.json", "commands/c.schema.json"} {
		path := filepath.Join(dir, name)
		schema := `{"$defs":{"n":{"anyOf":[{"additionalProperties":{"$ref":"#/$defs/n"},"type":"object"},{"additionalProperties":{"$ref":"#/$defs/n"},"type":"object"}]}},"$ref":"#/$defs/n"}`
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(schema), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	own, err := c.LoadThing(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c, own
}

// A check that would not end is a rejection that says so, or ends with its context and is none.
func TestChecksEnd(t *testing.T) {
	c, own := costly(t)
	deep := strings.Repeat(`{"a":`, 50) + "0" + strings.Repeat("}", 50)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, m := range []Message{
		{Address: mapping.Address{Thing: "a", Channel: mapping.Event, ID: "e"}, Payload: []byte(`{"eventType":"e","severity":"info","data":` + deep + `}`)},
		{Address: mapping.Address{Thing: "a", Channel: mapping.CommandRequest, ID: "1"}, Payload: fmt.Appendf(nil, `{"commandId":"1","action":"c","params":%s,"timestamp":1,"ttl":1}`, deep)},
	} {
		r := (*Rejection)(nil)
		if err := check(context.Background(), c, own, m); !errors.As(err, &r) || r.Code != CodeSchema || !r.Overrun || len(r.Reason) > 500 || len(r.Details) != 1 {
			t.Errorf("%s: %v", m.Address, err)
		}
		if err := check(ended, c, own, m); !errors.Is(err, context.Canceled) || errors.As(err, &r) && r == nil {
			t.Errorf("%s, with a context that has ended: %v", m.Address, err)
		}
	}
}

// A schema that takes too many steps is named in the log, once in a while.
func TestOverrunsAreLoggedAtARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		o := &overruns{log: slog.New(slog.NewTextHandler(&log, nil))}
		a := mapping.Address{Thing: "a", Channel: mapping.Event, ID: "e"}
		for range 3 {
			o.note(a, &Rejection{Code: CodeSchema, Reason: "too much", Overrun: true})
			o.note(a, &Rejection{Code: CodeSchema, Reason: "wrong"})
			o.note(a, context.Canceled)
		}
		time.Sleep(2 * overrunPause)
		o.note(a, &Rejection{Code: CodeSchema, Reason: "too much", Overrun: true})
		if text := log.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "id=e") || !strings.Contains(text, "hidden=2") || strings.Contains(text, "wrong") {
			t.Error(text)
		}
		(*overruns)(nil).note(a, &Rejection{Overrun: true})
	})
}
