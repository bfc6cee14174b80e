package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fleetbridge/fleetsim"
)

func TestDoctor(t *testing.T) {
	sim := fleetsim.Start(t, fleetsim.Options{Things: []string{"pump-07"}})
	config := func(things string) string {
		text := fmt.Sprintf("mqtt: {server: %q}\nthings: [%s]\nhttp: {listen: \"\"}\nnats: {up: {max_bytes: 1MiB}, down: {max_bytes: 1MiB}, embedded: {listen: \"127.0.0.1:0\", store_dir: %q}}\n",
			sim.BrokerURL(), things, filepath.Join(t.TempDir(), "store"))
		path := filepath.Join(t.TempDir(), "gw.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := config("{name: pump-07}")
	text := invoke(t, []string{"doctor", "--config", good}, "")
	if strings.Contains(text, "[1]") || !strings.Contains(text, "ok    publish    pump-07: jobs/get is answered") || !strings.Contains(text, " 0 fail, ") {
		t.Error(text)
	}
	var out struct {
		Healthy  bool
		Findings []struct{ Status, Check, Detail string }
	}
	if err := json.Unmarshal([]byte(invoke(t, []string{"doctor", "--json", "--config", good}, "")), &out); err != nil || !out.Healthy || len(out.Findings) < 20 {
		t.Errorf("%v %+v", err, out)
	}
	sim.Broker().DenySubscribe("$emqx/things/pump-07/jobs/notify", 0x97)
	text = invoke(t, []string{"doctor", "--quiet", "--config", good}, "")
	if !strings.HasSuffix(text, "[1]\n") || !strings.Contains(text, "0x97 quota exceeded → set mqtt.subscriptions: compact") || strings.Contains(text, "ok  ") {
		t.Error(text)
	}
	// Nobody is there: each step ends by itself.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it accepts, and never says a word
	silent := config("{name: pump-07}")
	data, err := os.ReadFile(silent)
	if err != nil {
		t.Fatal(err)
	}
	data = []byte(strings.Replace(string(data), sim.BrokerURL(), "mqtt://"+l.Addr().String(), 1))
	if err := os.WriteFile(silent, data, 0o600); err != nil {
		t.Fatal(err)
	}
	text = invoke(t, []string{"doctor", "--quiet", "--step-timeout", "200ms", "--config", silent}, "")
	if !strings.HasSuffix(text, "[1]\n") || !strings.Contains(text, "fail  connect    pump-07: ") || !strings.Contains(text, "no CONNACK") {
		t.Error(text)
	}
}

func TestAsyncAPIOfAConfiguration(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "gw.yaml")
	text := "mqtt: {server: mqtt://b}\nthings: [{name: \"pump 7\"}]\nnats: {prefix: site.a, url: \"tls://user:secret@nats.example.com:4223\"}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out := invoke(t, []string{"asyncapi", "--config", path}, "")
	for _, want := range []string{"host: nats.example.com:4223\n", "protocol: natss", "address: site.a.up.{thing}.shadow.update", "- pump=207"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(out, "secret@") || strings.Contains(out, "[1]") {
		t.Error("the login was printed, or it failed")
	}
	if again := invoke(t, []string{"asyncapi", "--config", path}, ""); again != out {
		t.Error("the second time it prints something else")
	}
}
