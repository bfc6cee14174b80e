package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fleetbridge/fleetsim"
)

// thing-type fetch gets a Thing Type of the API, and touches a file only for one that can be used.
func TestThingTypeFetch(t *testing.T) {
	sim := fleetsim.Start(t, fleetsim.Options{APIKey: "ak", APISecret: "hunter2"})
	dir := t.TempDir()
	config, file := filepath.Join(dir, "gw.yaml"), filepath.Join(dir, "pump.json")
	text := fmt.Sprintf("mqtt: {server: 'mqtt://h'}\nfleets: {url: %q, api_key: ak, api_secret: hunter2}\nthings: [{name: pump-07}]\n", sim.HTTPURL())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	fetch := func(name string, more ...string) string {
		return invoke(t, append([]string{"thing-type", "fetch", name, "--config", config}, more...), "")
	}
	set := func(schema string) {
		if _, err := sim.SetThingType([]byte(`{"name":"com.acme.pump","schema":` + schema + `}`)); err != nil {
			t.Fatal(err)
		}
	}
	for want, got := range map[string]string{
		"! fleetbridge: fetch: NAME is missing":                               invoke(t, []string{"thing-type", "fetch"}, ""),
		`! fleetbridge: thing-type fetch: Thing Type "none" is not in Fleets`: fetch("none", "--to", file),
	} {
		if !strings.HasPrefix(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	set(`{"properties":{"rpm":{"type":"int","min":9,"max":1}}}`)
	if got := fetch("com.acme.pump", "--to", file); !strings.HasPrefix(got, "! fleetbridge: com.acme.pump: /schema/properties/rpm: has a least value of 9") {
		t.Error(got)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a Thing Type that can't be used was written")
	}
	set(`{"properties":{"rpm":{"type":"int","max":3000.0}},"telemetry":{}}`)
	if got := fetch("com.acme.pump"); !strings.Contains(got, "\n        \"max\": 3000.0,") && !strings.Contains(got, "\"max\": 3000.0\n") ||
		!strings.Contains(got, "! warning: com.acme.pump: /schema/telemetry: is not known") {
		t.Error(got)
	}
	for _, said := range []string{"written", "is as it was"} {
		if got := fetch("com.acme.pump", "--to", file); !strings.HasPrefix(got, file+" "+said+"\n") {
			t.Error(got)
		}
	}
	if got := invoke(t, []string{"thing-type", "check", file}, ""); !strings.HasPrefix(got, "OK: com.acme.pump 1.0.0: 1 properties") {
		t.Error(got)
	}
	sim.SetHTTPFault(&fleetsim.HTTPFault{Status: 403})
	if got := fetch("com.acme.pump", "--to", file); !strings.Contains(got, `the key needs the permission "GET /api/v1/thing-types"`) || !strings.HasSuffix(got, "[1]\n") {
		t.Error(got)
	}
}
