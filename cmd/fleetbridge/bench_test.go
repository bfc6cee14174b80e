package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fleetbridge/fleetsim"
)

// TestMain makes this test binary the program itself for the process that bench starts.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	fleetsim.Hurry()
	_ = os.Setenv(asProgram, "1") // for children
	os.Exit(m.Run())
}

const asProgram = "FLEETBRIDGE_TEST_AS_PROGRAM"

// Each kind of measurement goes through with the bridge in a process of its own, prints what it found, and
// leaves nothing behind but its rows in the table.
func TestBench(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	table := filepath.Join(dir, "results.csv")
	for _, c := range []struct{ kind, broker string }{{"up", "sim"}, {"down", "sim"}, {"command", "sim"}, {"req", "sim"}, {"up", "free"}, {"down", "free"}} {
		got := invoke(t, []string{"bench", c.kind, "--broker", c.broker, "-n", "40", "--things", "2", "--sync", "1s", "--store-dir", dir, "--csv", table}, "")
		for _, want := range []string{c.kind + " ", "2 Things, broker: " + c.broker, "\nrate ", "40 messages in", "\nlatency    p50 ", "\nbridge ", " of CPU a message", "\nload "} {
			if !strings.Contains(got, want) {
				t.Errorf("%s, %s: no %q in\n%s", c.kind, c.broker, want, got)
			}
		}
		if strings.Contains(got, "! ") || strings.Contains(got, "\r") {
			t.Errorf("%s, %s:\n%s", c.kind, c.broker, got)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
	file, err := os.Open(table)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil || len(rows) != 7 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	const header = "at,kind,channel,broker,things,size_bytes,asked_per_second,window,seconds,messages,per_second,p50_us,p90_us,p99_us,p999_us,max_us," +
		"bridge_cpu_us_per_message,bridge_cores,bridge_bytes,load_cores,lost,refused,repeated,out_of_order"
	if got := strings.Join(rows[0], ","); got != header {
		t.Errorf("columns %s", got)
	}
	if got := strings.Join(rows[2][1:8], ","); got != "down,shadow.delta,sim,2,300,0.00,4096" || rows[2][9] != "40" || rows[2][16] == "0.00" {
		t.Errorf("row %s", strings.Join(rows[2], ","))
	}
}

// A profile of the bridge's process is written.
func TestBenchProfile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	profile := filepath.Join(dir, "cpu.pprof")
	if got := invoke(t, []string{"bench", "up", "-n", "10", "--sync", "1s", "--store-dir", dir, "--profile", profile}, ""); strings.Contains(got, "[1]") {
		t.Fatal(got)
	}
	if info, err := os.Stat(profile); err != nil || info.Size() == 0 {
		t.Errorf("profile: %v", err)
	}
}

// The bar is for terminals, and leaves an empty line behind.
func TestBar(t *testing.T) {
	var out bytes.Buffer
	b := newBar(&out, true)
	b.show(0.5, 100)
	if got := out.String(); !strings.HasPrefix(got, "\r\x1b[K[###############...............]  50 %  ") || strings.Contains(got, "\n") {
		t.Errorf("got %q", got)
	}
	b.show(1.01, 200)
	b.clear()
	if !strings.HasSuffix(out.String(), "\r\x1b[K") {
		t.Errorf("got %q", &out)
	}
	out.Reset()
	b = newBar(&out, false)
	b.show(0.5, 100)
	b.clear()
	if out.Len() > 0 {
		t.Errorf("got %q", &out)
	}
	newBar(failing{}, true).show(0.1, 1) // a terminal that went away stops nothing
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("gone") }
