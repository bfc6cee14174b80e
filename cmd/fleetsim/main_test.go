package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"fleetbridge/fleetsim"
)

const thermostat = "../../examples/thermostat.json"

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
		{[]string{"--broker", "mqtt://h:1", "--like", "emqx-6"}, "--like"},
		{[]string{"--like", "rabbitmq"}, `--like: "rabbitmq" is no broker: use emqx-5.3`},
		{[]string{"--like", "emqx-6,max-queue"}, "--like: max-queue: write max-queue=N"},
		{[]string{"--http", "8080"}, "--http"},
		{[]string{"--thing", "a/b"}, "a/b"},
		{[]string{"--thing", "a", "--thing", "a"}, "twice"},
		{[]string{"--duplicate", "2"}, "--duplicate: 2 is no probability"},
		{[]string{"--drop-answers", "2"}, "--drop-answers: 2"},
		{[]string{"--late-answers", "-1s"}, "--late-answers: -1s"},
		{[]string{"help", "nosuch"}, `"nosuch" is no command`},
		{[]string{"completion"}, "name a shell: bash, fish"},
		{[]string{"completion", "nosuch"}, `"nosuch" is no shell`},
		{[]string{"completion", "bash", "x"}, `"x"`},
		{[]string{"--broker", "mqtts://h", "--ca-file", "nowhere.pem"}, "nowhere.pem"},
		{[]string{"--broker", "mqtts://h", "--ca-file", "main.go"}, "no certificate"},
		{[]string{"--log-level", "loud"}, "--log-level"},
		{[]string{"--seed", "x"}, "--seed"},
		{[]string{"version", "stray"}, "stray"},
		{[]string{"conform"}, "--device: name the file"},
		{[]string{"conform", "--device", "nowhere.json"}, "nowhere.json"},
		{[]string{"conform", "--device", "main.go"}, "--device main.go: invalid character"},
		{[]string{"conform", "--device", thermostat, "--thing", "a/b"}, "--thing"},
		{[]string{"conform", "--device", thermostat, "--mqtt", "1883"}, "--mqtt"},
		{[]string{"conform", "--device", thermostat, "--nats", "nats://h:1"}, "--mqtt and --http"},
		{[]string{"conform", "--device", thermostat, "--login"}, "--over-nats"},
		{[]string{"conform", "--device", thermostat, "--over-nats", "--bridge", "./nowhere"}, "--bridge"},
		{[]string{"conform", "--device", thermostat, "--patience", "0s"}, "--patience"},
		{[]string{"conform", "--device", thermostat, "--like", "x"}, "--like"},
		{[]string{"conform", "--device", thermostat, "--", "./nowhere"}, "the program"},
	} {
		var out, errs strings.Builder
		if code := run(t.Context(), c.args, streams{&out, &errs}); code != usage {
			t.Errorf("%q: exit code %d, want %d", c.args, code, usage)
		}
		if !strings.HasPrefix(errs.String(), "fleetsim: ") || !strings.Contains(errs.String(), c.want) || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%q says %q, want a line with %q", c.args, errs.String(), c.want)
		}
	}
}

func TestHelp(t *testing.T) {
	var out, errs strings.Builder
	if code := run(t.Context(), []string{"--help"}, streams{&out, &errs}); code != done || errs.Len() > 0 {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
	for _, flag := range []string{"--broker", "--mqtt", "--http", "--api-key", "--api-secret", "--thing", "--auto-create", "--seed", "--log-level", "--version", "completion", "What the protocol leaves open", "Misbehaviour"} {
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
		if code := run(t.Context(), args, streams{&out, &errs}); code != failed || !strings.Contains(errs.String(), "in use") {
			t.Errorf("%q: exit code %d, %q", args, code, errs.String())
		}
	}
}

// Every problem has a line.
func TestProblems(t *testing.T) {
	var out, errs strings.Builder
	code := run(t.Context(), []string{"--mqtt", "1883", "--http", "8080", "--thing", "a/b", "--log-level", "loud", "--reorder", "2", "--reorder-wait", "-1s"}, streams{&out, &errs})
	if code != usage || strings.Count(errs.String(), "fleetsim: ") != 6 || strings.Count(errs.String(), "\n") != 6 {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
}

// The key and the secret come from the environment unless they are on the command line, and neither
// is in the help.
func TestEnvironment(t *testing.T) {
	t.Setenv("FLEETSIM_API_KEY", "key-of-environment")
	t.Setenv("FLEETSIM_API_SECRET", "secret-of-environment")
	for _, c := range []struct {
		args        []string
		key, secret string
	}{
		{nil, "key-of-environment", "secret-of-environment"},
		{[]string{"--api-key", "k"}, "k", "secret-of-environment"},
		{[]string{"--api-key", "", "--api-secret", ""}, "", ""},
	} {
		f := &flags{}
		all := pflag.NewFlagSet("", pflag.ContinueOnError)
		for _, s := range f.sections() {
			all.AddFlagSet(s.FlagSet)
		}
		if err := all.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		f.complete(all.Changed, os.Getenv)
		if o := f.options(io.Discard); o.APIKey != c.key || o.APISecret != c.secret {
			t.Errorf("%q: %q, %q", c.args, o.APIKey, o.APISecret)
		}
	}
	var out, errs strings.Builder
	if run(t.Context(), []string{"--help"}, streams{&out, &errs}); strings.Contains(out.String(), "of-environment") {
		t.Error(out.String())
	}
}

// Without flags the options are the documented defaults.
func TestDefaults(t *testing.T) {
	f := &flags{}
	f.sections()
	o := f.options(io.Discard)
	if o.Embedded.Listen != "127.0.0.1:1883" || o.HTTPListen != "127.0.0.1:8080" || o.ClientID != "fleets-simulator" ||
		o.Misbehaviour != (fleetsim.Misbehaviour{ReorderWait: 100 * time.Millisecond}) || f.logLevel != "info" || f.check() != nil {
		t.Errorf("%+v", o)
	}
}

func TestVersion(t *testing.T) {
	version, commit = "v1.2.3", "abc123"
	defer func() { version, commit = "", "" }()
	for _, args := range [][]string{{"version"}, {"--version"}} {
		var out, errs strings.Builder
		if code := run(t.Context(), args, streams{&out, &errs}); code != done || errs.Len() > 0 ||
			!regexp.MustCompile(`^fleetsim v1\.2\.3, commit abc123, go1\.\d+\S* \w+/\w+\n$`).MatchString(out.String()) {
			t.Errorf("%q: exit code %d, %q, %q", args, code, out.String(), errs.String())
		}
	}
}

// Every shell gets a completion script, and levels are completed.
func TestCompletion(t *testing.T) {
	for want, args := range map[string][]string{
		"# bash completion": {"completion", "bash"}, "#compdef fleetsim": {"completion", "zsh"},
		"# fish completion": {"completion", "fish"}, "# powershell completion": {"completion", "powershell"},
		"emqx-6\n": {"__complete", "--like", ""}, "debug\ninfo\n": {"__complete", "--log-level", ""}, "--thing": {"__complete", "--th"},
	} {
		var out, errs strings.Builder
		if code := run(t.Context(), args, streams{&out, &errs}); code != done || !strings.Contains(out.String(), want) {
			t.Errorf("%q: exit code %d, %q", args, code, out.String())
		}
	}
}

// The simulator runs, prints a line a flow, and ends with its context.
func TestRuns(t *testing.T) {
	t.Setenv("FLEETSIM_API_KEY", "k")
	t.Setenv("FLEETSIM_API_SECRET", "s")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	lines, out := io.Pipe()
	code := make(chan int, 1)
	var errs strings.Builder
	go func() {
		code <- run(ctx, []string{"--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0", "--thing", "pump-07", "--thing", "a,b"}, streams{out, &errs})
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
