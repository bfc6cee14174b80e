package main

import (
	"os"
	"strings"
	"testing"
)

// TestInit: what init writes is a configuration, which the other commands find without being told.
func TestInit(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv(configVariable, "")
	if got := invoke(t, []string{"check"}, ""); !strings.Contains(got, "there is no configuration") || !strings.HasSuffix(got, "[2]\n") {
		t.Errorf("nothing there: got %q", got)
	}
	args := []string{"init", "--thing", "hall's pump", "--server", "mqtt://broker:1883"}
	if got := invoke(t, args, ""); !strings.Contains(got, "./fleetbridge.yaml is written") {
		t.Fatal(got)
	}
	got := invoke(t, []string{"check"}, "")
	if !strings.Contains(got, "1: hall's pump\n") || !strings.Contains(got, "mqtt://broker:1883") {
		t.Errorf("check: got %q", got)
	}
	before, err := os.ReadFile("fleetbridge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got := invoke(t, []string{"init"}, ""); !strings.Contains(got, "is there already") || !strings.HasSuffix(got, "[1]\n") {
		t.Errorf("again: got %q", got)
	}
	if after, _ := os.ReadFile("fleetbridge.yaml"); string(after) != string(before) {
		t.Error("the file was touched")
	}
	if info, err := os.Stat("fleetbridge.yaml"); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	t.Setenv(configVariable, "elsewhere.yaml")
	if got := invoke(t, []string{"check"}, ""); !strings.HasPrefix(got, "! elsewhere.yaml: ") {
		t.Errorf("%s: got %q", configVariable, got)
	}
	for _, c := range []struct{ flag, value, want string }{
		{"--thing", "a/b", "init: --thing: "},
		{"--server", "broker", "init: --server: "},
		{"--server", "mqtts://user:secret@broker", "carries a login"},
	} {
		got := invoke(t, []string{"init", "--config", "other.yaml", c.flag, c.value}, "")
		if !strings.Contains(got, c.want) || !strings.HasSuffix(got, "[2]\n") || strings.Contains(got, "secret@") {
			t.Errorf("%s %s: got %q", c.flag, c.value, got)
		}
	}
	if got := invoke(t, []string{"init", "--config", "-"}, ""); !strings.Contains(got, "'thermostat-001'") {
		t.Errorf("to standard output: got %q", got)
	}
}
