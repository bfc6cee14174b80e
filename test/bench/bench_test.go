package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"fleetbridge/fleetsim"
	"fleetbridge/internal/bench"
)

// TestMain makes this test binary the program itself for the processes that it starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == workerArg {
		main()
		os.Exit(0)
	}
	fleetsim.Hurry()
	os.Exit(m.Run())
}

// Every contender that needs no mosquitto carries every message, in a process of its own.
func TestContenders(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := plan{runs: 1, size: 300, dir: t.TempDir(), self: self}
	for _, name := range []string{stock, tuned, synced, relaxed} {
		for _, k := range []bench.Kind{bench.Up, bench.Down} {
			t.Run(name+"/"+string(k), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
				defer cancel()
				l := p.load(k, 2)
				l.Duration, l.Messages = 0, 200
				r, err := p.measure(ctx, trial{contender: name, broker: onFree, load: l})
				if err != nil || r.Messages != 200 || r.Lost > 0 || r.Repeated > 0 || r.Subject.CPU <= 0 {
					t.Errorf("%+v, %v", r, err)
				}
			})
		}
	}
	if left, err := os.ReadDir(p.dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// A bridge, a server and a timer that have nothing to do are measured side by side.
func TestIdle(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	p := plan{runs: 1, duration: time.Millisecond, dir: t.TempDir(), self: self, out: &out}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := p.idle(ctx); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{onlyTimer, onlyNATS, synced} {
		if !strings.Contains(out.String(), "\n| "+name+" | ") {
			t.Errorf("%s is missing in %s", name, &out)
		}
	}
}

// The floor prints topics and subjects as the bridge does, for the ones that are measured.
func TestFloorSpellings(t *testing.T) {
	if got := downSubject("$emqx/things/a/shadow/update/delta"); got != "fleets.down.a.shadow.update.delta" {
		t.Error(got)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"run"}, {"-runs", "0", "compare"}, {"-duration", "0s", "compare"}, {"compare", "latency"}} {
		t.Chdir(t.TempDir())
		if err := run(t.Context(), args, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "usage:") {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestTable(t *testing.T) {
	tab := table{head: []string{"", "a", "b"}}
	tab.add("x", "1", "2")
	if got, want := tab.String(), "|  | a | b |\n|---|---:|---:|\n| x | 1 | 2 |\n"; got != want {
		t.Errorf("got %s", got)
	}
	self := func(f float64) float64 { return f }
	for want, list := range map[float64][]float64{0: {}, 3: {3}, 2: {9, 1, 2}, 2.5: {4, 1, 2, 3}} {
		if got := median(list, self); got != want {
			t.Errorf("median of %v is %v", list, got)
		}
	}
	if grouped(1234567.4) != "1,234,567" || ratio(1, 0) != "" || ratio(3, 2) != "1.50" || micros(0) != "" {
		t.Error("numbers are printed wrong")
	}
}

// What is found stands between its own markers, and nothing else changes.
func TestDocument(t *testing.T) {
	const doc = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n<!-- y:begin -->\n<!-- y:end -->\n"
	got, err := between(doc, "x", "new\n")
	if want := strings.Replace(doc, "old", "new", 1); err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
	if again, err := between(got, "x", "new"); err != nil || again != got {
		t.Errorf("%s, %v", again, err)
	}
	if _, err := between(doc, "z", ""); err == nil {
		t.Error("a document without the markers is no error")
	}
	page, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"compare", "latency", "growth", "profile", "idle"} {
		if _, err := between(string(page), name, ""); err != nil {
			t.Errorf("docs/performance.md: %v", err)
		}
	}
}
