package soak

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

func TestTable(t *testing.T) {
	rows := []*Row{
		{Scenario: Scenario{Name: "link cut", Faults: "the link is cut"}, Rounds: 2, Injected: 6, Total: fleetsim.Tally{In: 1000, Dead: 1, Duplicated: 7}, Recovery: []time.Duration{3 * time.Second, time.Second, 2 * time.Second}},
		{Scenario: Scenario{Name: "poison"}, Rounds: 1, Injected: 1, Total: fleetsim.Tally{In: 10, Lost: 2, Strange: 1, OutOfOrder: 4}, Failed: true},
	}
	text := Text(rows)
	for _, want := range []string{
		"link cut       2       6       1000         1             0     7           0             2.00 s           3.00 s",
		"poison FAILED  1       1       10           0             3     0           4",
		"all            3       7       1010         1             3     7           4             2.00 s           3.00 s",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if md := Markdown(rows); !strings.Contains(md, "| link cut | the link is cut | 2 | 6 | 1000 | 1 | 0 | 7 | 0 | 2.00 s | 3.00 s |") {
		t.Error(md)
	}
}

func TestWriteTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	for _, c := range []struct{ before, after string }{
		{"", "<!-- soak:begin -->\nNEW\n\n"},
		{"head\n<!-- soak:begin -->\nold\n<!-- soak:end -->\ntail\n", "head\n<!-- soak:begin -->\nNEW\n\n"},
		{"no markers", ""},
		{"<!-- soak:begin --> without an end", ""},
	} {
		if err := os.WriteFile(path, []byte(c.before), 0o600); err != nil {
			t.Fatal(err)
		}
		err := WriteTable(path, "NEW", nil)
		got, _ := os.ReadFile(path)
		switch {
		case c.after == "" && (err == nil || string(got) != c.before):
			t.Errorf("%q: %v, became %q", c.before, err, got)
		case c.after != "" && (err != nil || !strings.HasPrefix(string(got), c.after) || strings.Contains(string(got), "old")):
			t.Errorf("%q: %v, became %q", c.before, err, got)
		}
		if _, tail, _ := strings.Cut(c.before, "<!-- soak:end -->"); err == nil && !strings.HasSuffix(string(got), "<!-- soak:end -->"+tail) && c.before != "" {
			t.Errorf("%q: became %q", c.before, got)
		}
	}
}

// Numbers are found in good payloads and in poison.
func TestNumber(t *testing.T) {
	at := func(c mapping.Channel, id string) mapping.Address {
		return mapping.Address{Thing: "pump-01", Channel: c, ID: id}
	}
	_, payload := upward("pump-01", mapping.Shadow, 16)
	poison := noJSON(20)
	_, note := notification("pump-01", 7, 0)
	for _, c := range []struct {
		address mapping.Address
		payload string
		lane    string
		n       uint64
	}{
		{at(mapping.ShadowReport, ""), string(payload), "up/pump-01/shadow", 16},
		{at(mapping.Event, "n"), string(poison), "up/pump-01/events", 20},
		{at(mapping.JobsNotify, ""), string(note), "down/pump-01", 7},
		{at(mapping.CommandResponse, "r12"), `{}`, "up/pump-01/commands", 12},
		{at(mapping.JobUpdate, "j13"), `{}`, "up/pump-01/jobs", 13},
		{at(mapping.CommandResponse, "c3"), `{}`, "command/pump-01", 3},
		{at(mapping.ShadowDelta, ""), `{"version":4,"state":{"n":4}}`, "delta/pump-01", 4},
		{at(mapping.JobsGetAccepted, ""), `{"n":1}`, "", 0},
		{at(mapping.Event, "n"), `{}`, "", 0},
		{at(mapping.CommandResponse, "x"), `{}`, "", 0},
	} {
		lane, n, ok := number(c.address, []byte(c.payload))
		if ok != (c.lane != "") || ok && (lane != c.lane || n != c.n) {
			t.Errorf("%v %s: %s %d %t", c.address, c.payload, lane, n, ok)
		}
	}
}
