package console

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
)

// A bridge whose console can't be served works, says so once, and tells whoever asks for a link. The usual port is often another
// bridge's: that is no warning.
func TestPortIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	portIsTaken(t, l.Addr().String(), "WARN")
	usual := gateway.Default().Console.Listen
	if l, err := net.Listen("tcp", usual); err == nil { // else somebody has it already
		defer func() { _ = l.Close() }()
	}
	portIsTaken(t, usual, "INFO")
}

func portIsTaken(t *testing.T, address, level string) {
	t.Helper()
	cfg := gateway.Default()
	cfg.MQTT.Server, cfg.Things = []string{"mqtt://127.0.0.1:1"}, []gateway.Thing{{Name: "pump-07", ClientID: "pump-07"}}
	cfg.NATS.Embedded.Listen, cfg.NATS.Embedded.StoreDir, cfg.HTTP.Listen, cfg.Console.Listen = "127.0.0.1:0", t.TempDir(), "127.0.0.1:0", address
	gw, err := gateway.New(cfg, gateway.Build{}, fleetsim.Log(t, "the console can't be served", "can't connect", "not connected", "connection"))
	if err != nil {
		t.Fatal(err)
	}
	gw.Console = New
	ctx, stop := withEnd(t)
	ended := make(chan error, 1)
	go func() { ended <- gw.Run(ctx) }()
	select {
	case <-gw.Listening():
	case err := <-ended:
		t.Fatal(err)
	}
	if link, err := gw.ConsoleLink(true); err == nil || !strings.Contains(err.Error(), "free port") {
		t.Errorf("there is a link: %s %v", link, err)
	}
	if !slices.ContainsFunc(gw.Events(), func(e gateway.Event) bool { return e.Level == level && strings.Contains(e.Message, "the console") }) {
		t.Errorf("nothing is said: %+v", gw.Events())
	}
	answer, err := http.Get("http://" + gw.HTTPAddr() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("healthz: %d", answer.StatusCode)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
