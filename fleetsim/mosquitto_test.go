//go:build realbroker

package fleetsim_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"fleetbridge/fleetsim"
)

func TestMosquittoKeepsSessions(t *testing.T) {
	m := fleetsim.StartMosquitto(t, fleetsim.MosquittoOptions{Persistence: true, Log: fleetsim.Log(t)})
	newDevice(t, m.URL())
	url := m.URL()
	if err := m.Restart(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if m.URL() != url {
		t.Errorf("%s became %s", url, m.URL())
	}
	if _, ack, err := connect(t, m.URL(), login{}); err != nil || !ack.SessionPresent {
		t.Errorf("after a restart: %+v, %v", ack, err)
	}
	if err := m.Start(deadline(t)); err == nil {
		t.Error("started twice")
	}
	if err := m.Kill(); err != nil {
		t.Error(err)
	}
	if err := m.Stop(deadline(t)); err != nil {
		t.Errorf("stopped when down: %v", err)
	}
}

func TestMosquittoForgets(t *testing.T) {
	m := fleetsim.StartMosquitto(t, fleetsim.MosquittoOptions{})
	newDevice(t, m.URL())
	if err := m.Restart(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if _, ack, err := connect(t, m.URL(), login{}); err != nil || ack.SessionPresent {
		t.Errorf("after a restart: %+v, %v", ack, err)
	}
}

func TestMosquittoErrors(t *testing.T) {
	if _, err := fleetsim.NewMosquitto(deadline(t), fleetsim.MosquittoOptions{Binary: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("a missing binary was started")
	}
	_, err := fleetsim.NewMosquitto(deadline(t), fleetsim.MosquittoOptions{Lines: []string{"no_such_option 1"}})
	if err == nil || !strings.Contains(err.Error(), "no_such_option") {
		t.Errorf("a bad configuration: %v", err)
	}
	t.Setenv("PATH", "")
	if _, err := fleetsim.NewMosquitto(deadline(t), fleetsim.MosquittoOptions{}); err != nil && !errors.Is(err, fleetsim.ErrNoMosquitto) {
		t.Error(err)
	}
}

const withMosquitto = true

// The simulator reaches an external broker again after its restart, and takes what came meanwhile.
func TestExternalBrokerRestarts(t *testing.T) {
	m := fleetsim.StartMosquitto(t, fleetsim.MosquittoOptions{Persistence: true})
	link := newLink(t, m.URL())
	sim := start(t, fleetsim.Options{Broker: link.URL()})
	link.Cut()
	d := newDevice(t, m.URL())
	d.send(prefix+"events/a", `{"eventType":"a","severity":"info"}`)
	if err := m.Restart(deadline(t)); err != nil {
		t.Fatal(err)
	}
	id := must(sim.SendCommand(fleetsim.Command{Thing: name, Action: "x"}))(t)
	link.Restore()
	must(sim.WaitEvents(deadline(t), name, 1))(t)
	d2, ack, err := connect(t, m.URL(), login{})
	if err != nil || !ack.SessionPresent {
		t.Fatal(ack, err)
	}
	d2.receive(id + "/request")
}
