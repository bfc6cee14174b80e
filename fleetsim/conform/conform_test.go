package conform

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestReadDevice(t *testing.T) {
	const desired = `"desired":[{"a":1},{"a":2},{"a":3}]`
	if _, err := ReadDevice([]byte(`{` + desired + `,"command":{"action":"x"}}`)); err != nil {
		t.Error(err)
	}
	for in, want := range map[string][]string{
		`{`:                                {"unexpected EOF"},
		`{"desire":[]}`:                    {`unknown field "desire"`},
		`{` + desired + `} {}`:             {"behind the object"},
		`{}`:                               {"desired: has 0 patches, write three or more", "command.action"},
		`{"desired":[{"a":1},{"a":1},7]}`:  {"desired[1]: is the same as the one before", "desired[2]: is no object"},
		`{` + desired + `,"job":7}`:        {"job: is no object", "command.action"},
		`{` + desired + `,"longJob":"x"}`:  {"longJob: is no object"},
		`{"command":{"params":7}}`:         {"command.params: is no object"},
		`{"command":{"reported":[1,2,3]}}`: {"command.reported: is no object"},
	} {
		_, err := ReadDevice([]byte(in))
		for _, part := range want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v, want %q", in, err, part)
			}
		}
	}
}

func TestReport(t *testing.T) {
	r := Report{Name: "./device", Output: "at last\x01", Results: []Result{
		{Check: "connect", Must: "connects", Took: time.Second},
		{Check: "delta", Must: "applies a delta", Failure: "it <did> not"},
		{Check: "event", Must: "sends its event", Skipped: "not asked for"},
	}}
	var lines strings.Builder
	for _, c := range r.Results {
		c.print(&lines)
	}
	if got := lines.String(); !strings.HasPrefix(got, "pass  connect ") || !strings.Contains(got, "\nFAIL  delta ") || !strings.Contains(got, "\n      it <did> not\nskip  event ") {
		t.Error(got)
	}
	var b bytes.Buffer
	if err := r.WriteJUnit(&b); err != nil {
		t.Fatal(err)
	}
	var back suiteXML
	if err := xml.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatalf("%v in %s", err, b.String())
	}
	if back.Tests != 3 || back.Failures != 1 || back.Skipped != 1 || back.Time != "1.000" || r.Failed() != 1 ||
		back.Cases[1].Failure == nil || back.Cases[1].Failure.Message != "it <did> not" || back.Cases[2].Skipped == nil {
		t.Errorf("%s", b.String())
	}
}

func TestUntil(t *testing.T) {
	wrong := errors.New("wrong")
	if err := until(t.Context(), time.Millisecond, func() error { return wrong }); !errors.Is(err, wrong) || !strings.Contains(err.Error(), "for 1ms") {
		t.Error(err)
	}
	if err := until(t.Context(), time.Hour, func() error { return &lost{wrong} }); !errors.Is(err, wrong) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(wrong)
	if err := until(ctx, time.Hour, func() error { return errors.New("not yet") }); err != wrong {
		t.Error(err)
	}
}

// Every check has a name of its own, which documents and mistakes use.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range Names() {
		if seen[name] {
			t.Errorf("%q is there twice", name)
		}
		seen[name] = true
	}
}
