//go:build !windows

package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/sightings"
	"fleetbridge/mapping"
)

func TestTailLine(t *testing.T) {
	at := time.Date(2026, 1, 31, 8, 0, 0, 0, time.Local)
	text := func(s string) *string { return &s }
	for _, c := range []struct {
		line sightings.Line
		want string
	}{
		{sightings.Line{Record: &sightings.Record{At: at, Outcome: bridge.Delivered, Direction: "up", Thing: "pump-07", Channel: "event", ID: "hot", TookMS: 3.14159, Payload: text("{\n  \"a\": 1 }")}},
			`08:00:00.000 ▲ pump-07      event hot                delivered in 3.14ms  { "a": 1 }`},
		{sightings.Line{Record: &sightings.Record{At: at, Outcome: bridge.Dead, Direction: "down", Thing: "t", Channel: "jobs.notify", Code: "schema", Reason: "/a: no", TookMS: 61_234}},
			`08:00:00.000 ▼ t            jobs.notify              dead schema: /a: no in 1m1.23s`},
		{sightings.Line{Record: &sightings.Record{At: at, Outcome: bridge.Answered, Direction: "up", Thing: "t", Channel: "job.get", ID: "j", Payload: text("")}},
			`08:00:00.000 ▲ t            job.get j                answered ok`},
		{sightings.Line{Record: &sightings.Record{At: at, Outcome: bridge.Decided, Direction: "up", Thing: "t", Channel: "command.response", ID: "x", Code: "REJECTED", Reason: "no handler"}},
			`08:00:00.000 ▲ t            command.response x       the bridge answers REJECTED: no handler`},
		{sightings.Line{Record: &sightings.Record{At: at, Outcome: bridge.Called, Direction: "down", Thing: "t", Channel: "command.request", ID: "x", Reason: "turn"}},
			`08:00:00.000 ▼ t            command.request x        called turn`},
		{sightings.Line{Record: &sightings.Record{At: at, Outcome: bridge.Disconnected, Thing: "t", Reason: "EOF"}},
			`08:00:00.000 ● t            connection               disconnected: EOF`},
		{sightings.Line{Record: &sightings.Record{At: at, Outcome: "o\x1b[2J", Direction: "up", Thing: "t\x1b]0;x\a", Channel: "event", ID: "\u202e", Code: "\r", Reason: "\x9b1m", Base64: []byte("\xff\x1b[31m\x00")}},
			"08:00:00.000 ▲ t�]0;x�      event �                  o�[2J �: �1m  ��[31m�"},
		{sightings.Line{Skipped: 7, By: sightings.Gap{"event": 5, "connection": 1, "job.get": 1}}, `── 7 more were not shown (event 5, connection 1, job.get 1); name less with --thing, --channel or --text ──`},
	} {
		if got := tailLine(c.line); got != c.want {
			t.Errorf("got\n%q\nwant\n%q", got, c.want)
		}
	}
	long := tailLine(sightings.Line{Record: &sightings.Record{Payload: text(strings.Repeat("x", 4000)), Reason: strings.Repeat("y", 1000)}})
	if len([]rune(long)) > 300 {
		t.Errorf("a line of %d characters", len([]rune(long)))
	}
}

// On a terminal JSON, too, has nothing that steers it; elsewhere it is as it came.
func TestTailJSON(t *testing.T) {
	payload := "\u009b2J\u202e"
	l := sightings.Line{Record: &sightings.Record{Outcome: bridge.Delivered, Payload: &payload}}
	for name, want := range map[string]string{os.DevNull: `"payload":"\u009b2J\u202e"`, t.TempDir(): `"payload":"` + payload + `"`} {
		d := &device{name: name}
		if err := printJSON(d, l); err != nil || !strings.Contains(d.String(), want) {
			t.Errorf("%s: got %q, %v", name, d.String(), err)
		}
	}
}

// A tail goes on when the bridge is started again, and ends well with Ctrl-C.
func TestTailGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "fleetbridge.yaml")
	put(t, file, "mqtt: {server: \"mqtt://127.0.0.1:1\"}\nthings: [{name: pump-07}]\nnats: {embedded: {store_dir: data}}\n")
	if got := invoke(t, []string{"tail", "--config", file}, ""); !strings.Contains(got, "no bridge answers") || !strings.HasSuffix(got, "[1]\n") {
		t.Errorf("without a bridge: %s", got)
	}
	bridgeRuns := func() (w *sightings.Recorder, end func()) {
		l, err := sightings.Listen(t.Context(), filepath.Join(dir, "data"))
		if err != nil {
			t.Fatal(err)
		}
		r, stop := sightings.NewRecorder(&bridge.Watch{}), make(chan struct{})
		server := &http.Server{Handler: r.Handler("v1", stop)}
		go func() { _ = server.Serve(l) }()
		return r, func() { close(stop); _ = server.Shutdown(t.Context()) }
	}
	ctx, interrupt := context.WithTimeout(t.Context(), patience)
	defer interrupt()
	out, outW := io.Pipe()
	errs, errsW := io.Pipe()
	code := make(chan int, 1)
	r, end := bridgeRuns()
	go func() {
		code <- run(ctx, []string{"tail", "--config", file, "--thing", "pump-*"}, streams{nil, outW, errsW})
	}()
	lines, words := bufio.NewScanner(out), bufio.NewScanner(errs)
	next := func(s *bufio.Scanner, want string) {
		t.Helper()
		stuck := context.AfterFunc(ctx, func() { _ = outW.Close(); _ = errsW.Close() })
		defer stuck()
		if !s.Scan() || !strings.Contains(s.Text(), want) {
			t.Fatalf("got %q, want %q", s.Text(), want)
		}
	}
	see := func(thing, payload string) {
		r.Saw(&bridge.Sighting{Outcome: bridge.Delivered, Address: mapping.Address{Thing: mapping.Thing(thing), Channel: mapping.Event}, Payload: []byte(payload)})
	}
	next(words, "watching fleetbridge v1")
	see("valve-1", "not asked for")
	see("pump-07", "first")
	next(lines, "first")
	stopped := make(chan struct{})
	go func() { end(); close(stopped) }()
	next(words, "the bridge has gone")
	<-stopped
	r, end = bridgeRuns()
	next(words, "the bridge is back")
	see("pump-07", "second")
	next(lines, "second")
	interrupt()
	if c := <-code; c != done {
		t.Errorf("it ends with %d", c)
	}
	end()
}
