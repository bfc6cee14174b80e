package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--nonsense"}, "--nonsense"},
		{[]string{"stray"}, "stray"},
		{[]string{"--broker", "localhost"}, "mqtt://host:port"},
		{[]string{"--broker", "mqtt://h:1", "--mqtt", "127.0.0.1:0"}, "--broker"},
		{[]string{"--mqtt", "1883"}, "--mqtt"},
		{[]string{"--http", "8080"}, "--http"},
		{[]string{"--thing", "a/b"}, "a/b"},
		{[]string{"--thing", "a", "--thing", "a"}, "twice"},
		{[]string{"--duplicate", "2"}, "Duplicate"},
		{[]string{"--broker", "mqtts://h", "--ca-file", "nowhere.pem"}, "nowhere.pem"},
		{[]string{"--broker", "mqtts://h", "--ca-file", "main.go"}, "no certificate"},
		{[]string{"--log-level", "loud"}, "--log-level"},
	} {
		var out, errs strings.Builder
		if code := run(t.Context(), c.args, &out, &errs); code != usage {
			t.Errorf("%q: exit code %d, want %d", c.args, code, usage)
		}
		if !strings.HasPrefix(errs.String(), "fleetsim: ") || !strings.Contains(errs.String(), c.want) || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%q says %q, want a line with %q", c.args, errs.String(), c.want)
		}
	}
}

func TestHelp(t *testing.T) {
	var out, errs strings.Builder
	if code := run(t.Context(), []string{"--help"}, &out, &errs); code != done || errs.Len() > 0 {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
	for _, flag := range []string{"--broker", "--mqtt", "--http", "--api-key", "--api-secret", "--thing", "--auto-create", "--seed", "--log-level"} {
		if !strings.Contains(out.String(), flag) {
			t.Errorf("the help lacks %s", flag)
		}
	}
}

func TestFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, args := range [][]string{{"--mqtt", "127.0.0.1:0", "--http", l.Addr().String()}, {"--http", "127.0.0.1:0", "--mqtt", l.Addr().String()}} {
		var out, errs strings.Builder
		if code := run(t.Context(), args, &out, &errs); code != failed || !strings.Contains(errs.String(), "in use") {
			t.Errorf("%q: exit code %d, %q", args, code, errs.String())
		}
	}
}

// The simulator runs, prints a line a flow, and ends with its context.
func TestRuns(t *testing.T) {
	t.Setenv("FLEETSIM_API_KEY", "k")
	t.Setenv("FLEETSIM_API_SECRET", "s")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	lines, out := io.Pipe()
	code := make(chan int, 1)
	var errs strings.Builder
	go func() {
		code <- run(ctx, []string{"--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0", "--thing", "pump-07", "--thing", "a,b"}, out, &errs)
		_ = out.Close()
	}()
	printed := bufio.NewScanner(lines)
	api := ""
	for api == "" && printed.Scan() {
		if _, rest, ok := strings.Cut(printed.Text(), " http="); ok {
			api, _, _ = strings.Cut(rest, " ")
		}
	}
	shown := make(chan bool, 1)
	go func() {
		seen := false
		for printed.Scan() {
			seen = seen || strings.Contains(printed.Text(), "msg=desired thing=a,b version=1")
		}
		shown <- seen
	}()
	r, err := http.NewRequestWithContext(ctx, "PATCH", api+"/api/v1/things/a,b/shadow", strings.NewReader(`{"desired":{"a":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("k", "s")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Error(answer.Status)
	}
	cancel()
	if got := <-code; got != done || errs.Len() > 0 || !<-shown {
		t.Errorf("exit code %d, %q", got, errs.String())
	}
}
