package bridge

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// pumpType are the schemas of a Thing Type.
func pumpType(t *testing.T) *schemas.ThingSchemas {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pump.json")
	text := `{"properties":{"rpm":{"type":"int"},"serial":{"type":"string","writable":false}},
		"commands":{"purge":{"input":{},"output":{"litres":{"type":"float","unit":"l"}}}}}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	own, _, err := catalog(t).LoadThingType(path)
	if err != nil {
		t.Fatal(err)
	}
	return own
}

// TestResultOfThingType: a handler's result that breaks the Thing Type is answered FAILED, and kept with the reason.
func TestResultOfThingType(t *testing.T) {
	own := pumpType(t)
	for payload, want := range map[string]string{
		`{"status":"SUCCEEDED","result":{"litres":2}}`:      "SUCCEEDED",
		`{"status":"SUCCEEDED","result":{"litres":"many"}}`: "FAILED",
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newStation(t, rejecting, func(context.Context, Call) (Reply, error) { return Reply{Payload: []byte(payload)}, nil })
			s.Own = own
			s.start(t, "e1", time.Minute)
			s.running.Wait()
			response := s.outbox.payloads()[0]
			if got := gjson.Get(response, "status").String(); got != want {
				t.Errorf("%s: answered %s, want %s", payload, response, want)
			}
			if want == "SUCCEEDED" {
				return
			}
			const why = `/result/litres: must be a number, is the string "many" (in l)`
			if len(s.dead.letters) != 1 || !strings.Contains(s.dead.letters[0].Rejection.Reason, why) {
				t.Errorf("dead letters %v", s.dead.letters)
			}
		})
	}
}

// TestReadOnlyDesired: what the Thing Type does not let the cloud set is passed on as it is, and told once.
func TestReadOnlyDesired(t *testing.T) {
	d := newDeciders(t)
	log, text := logged(t)
	d.down.Own, d.down.Log = pumpType(t), log
	for version, m := range []Message{
		{Address: mapping.Address{Thing: pump07, Channel: mapping.ShadowDesired}, Payload: []byte(`{"state":{"desired":{"rpm":1,"serial":"x"}},"version":1}`)},
		{Address: mapping.Address{Thing: pump07, Channel: mapping.ShadowDelta}, Payload: []byte(`{"state":{"serial":"x"},"version":1,"timestamp":1780000000}`)},
	} {
		if got := fate(d.down.Decide(t.Context(), Delivery{Message: m})); got != string(m.Payload) {
			t.Errorf("%d: %s", version, got)
		}
	}
	if said := text(); strings.Count(said, "property=serial") != 1 || strings.Contains(said, "property=rpm") {
		t.Errorf("log:\n%s", said)
	}
}
