package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// Where nobody answers is said in the words of who asked.
func TestDeadWithoutABridge(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
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
