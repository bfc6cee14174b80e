package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
)

// Where nobody answers is said in the words of who asked.
func TestDeadWithoutABridge(t *testing.T) {
	address := fleetsim.Address(t)
	const base = "mqtt: {server: \"mqtt://127.0.0.1:1\"}\nthings: [{name: pump-07}]\n"
	dir := t.TempDir()
	embedded, external := filepath.Join(dir, "embedded.yaml"), filepath.Join(dir, "external.yaml")
	put(t, embedded, base+"nats: {embedded: {listen: \""+address+"\", store_dir: data}}\n")
	put(t, external, base+"nats: {url: \"nats://"+address+"\"}\n")
	for way, want := range map[string]string{
		"--config " + embedded:       "! fleetbridge: dead: the bridge does not answer at nats.embedded.listen " + address + "; is it running with this configuration?\n[1]\n",
		"--config " + external:       "! fleetbridge: nats.url nats://" + address + ": nats: no servers available for connection\n[1]\n",
		"--nats nats://" + address:   "! fleetbridge: dead: --nats nats://" + address + ": nats: no servers available for connection\n[1]\n",
		"--nats u:secret@" + address: "! fleetbridge: dead: --nats nats://" + address + ": nats: no servers available for connection\n[1]\n",
	} {
		if got := invoke(t, append([]string{"dead", "ls"}, strings.Fields(way)...), ""); got != want {
			t.Errorf("%s: got %q, want %q", way, got, want)
		}
	}
}

// A bridge whose broker is away, with letters of two Things: what an operator does with them.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "own", "events"), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "own", "events", "door.schema.json"), `{"type":"object","required":["open"]}`)
	address := fleetsim.Address(t)
	file := filepath.Join(dir, "fleetbridge.yaml")
	put(t, file, "mqtt: {server: \"mqtt://127.0.0.1:1\"}\nthings: [{name: pump-07, schema_dir: own}, {name: pump-08}]\n"+
		"nats: {embedded: {listen: \""+address+"\", store_dir: data}}\nhttp: {listen: \"\"}\n")
	gw, _ := runs(t, file)
	nc, err := nats.Connect(gw.NATSURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	dead, err := nc.SubscribeSync("fleets.dead.>")
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range [][2]string{
		{"fleets.up.pump-07.events.door", `{"eventType":"door","severity":"info","data":{}}`},
		{"fleets.up.pump-08.events.e", `{"eventType":"e"}`},
		{"fleets.up.pump-08.shadow.updat", `{}`},
	} {
		if _, err := nc.Request(m[0], []byte(m[1]), patience); err != nil {
			t.Fatal(err)
		}
		if _, err := dead.NextMsg(patience); err != nil {
			t.Fatalf("%s: no letter: %v", m[0], err)
		}
	}
	command := func(args ...string) string {
		t.Helper()
		return invoke(t, append([]string{"dead"}, append(args, "--config", file)...), "")
	}
	for _, c := range []struct {
		args string
		want []string
		not  string
	}{
		{"ls", []string{"pump-07", "pump-08", "schema", "subject"}, "[1]"},
		{"ls --thing pump-07", []string{"pump-07"}, "pump-08"},
		{"ls --code subject", []string{"shadow.updat"}, "pump-07"},
		{"ls --channel event --limit 1 --json", []string{`"id":1`, `"thing":"pump-07"`, `"code":"schema"`}, "pump-08"},
		{"ls --direction down", nil, "pump"},
		{"ls --since 1h --direction up", []string{"pump-07"}, "[1]"},
		{"ls --code shema", []string{"did you mean schema?", "[2]"}, "pump"},
		{"ls --since yesterday", []string{"24h", "[2]"}, "pump"},
		{"ls --thing a/b", []string{"--thing", "[2]"}, "pump-07"},
		{"show 1 --json", []string{`"payload":"{\"eventType\":\"door\"`}, "[1]"},
		{"replay", []string{"--all", "[2]"}, "sent\n"},
		{"replay 1 --all", []string{"keep one", "[2]"}, "1 sent"},
		{"replay --all --dry-run", []string{"1: not sent, it would be refused again: /data", "2: not sent", "3: not sent", "--force", "[1]"}, "sent\n[0]"},
		{"replay 1", []string{"would be refused again", "[1]"}, "1 sent"},
		{"rm --thing pump-08", []string{"2 removed", "3 removed"}, "1 removed"},
		{"rm 2", []string{"no such dead letter", "[1]"}, "removed\n"},
		{"replay 1 --force", []string{"1 sent"}, "[1]"},
	} {
		got := command(strings.Fields(c.args)...)
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in %s", c.args, want, got)
			}
		}
		if c.not != "" && strings.Contains(got, c.not) {
			t.Errorf("%s: %q in %s", c.args, c.not, got)
		}
	}
	if _, err := dead.NextMsg(patience); err != nil { // refused again, as was said
		t.Error(err)
	}
}

// runs runs a gateway with a configuration file until the test ends, and returns when programs can connect.
func runs(t *testing.T, file string) (*gateway.Gateway, *gateway.Config) {
	t.Helper()
	gw, cfg, _ := runsAs(t, file, func(*gateway.Gateway) {})
	return gw, cfg
}

func runsAs(t *testing.T, file string, prepare func(*gateway.Gateway)) (gw *gateway.Gateway, cfg *gateway.Config, stop func()) {
	t.Helper()
	cfg, err := gateway.Load(file, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	if gw, err = gateway.New(cfg, gateway.Build{Version: "0.0.0"}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	prepare(gw)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- gw.Run(ctx); close(ended) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	select {
	case <-gw.Listening():
	case err := <-ended:
		t.Fatal(err)
	}
	return gw, cfg, stop
}
