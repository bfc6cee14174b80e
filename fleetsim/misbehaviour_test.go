package fleetsim_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/fleetsim"
)

// answers asks n times and returns the tokens of what comes back, "-" for none, in order of arrival.
func answers(t *testing.T, m fleetsim.Misbehaviour, n int) []string {
	t.Helper()
	sim := start(t, fleetsim.Options{Misbehaviour: m})
	d := newDevice(t, sim.BrokerURL())
	for i := range n {
		d.send(prefix+"jobs/get", fmt.Sprintf(`{"clientToken":"%d"}`, i))
	}
	if err := sim.SetMisbehaviour(fleetsim.Misbehaviour{}); err != nil {
		t.Fatal(err)
	}
	if err := sim.WaitSent(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if err := sim.Publish(prefix+"jobs/notify", []byte(`{}`), fleetsim.PublishOptions{}); err != nil {
		t.Fatal(err)
	}
	var out []string
	for {
		p := d.packet()
		if strings.HasSuffix(p.Topic, "/notify") {
			return out
		}
		token := gjson.GetBytes(p.Payload, "clientToken").String()
		if token == "" {
			token = "-"
		}
		if strings.HasSuffix(p.Topic, "/rejected") {
			token += "!"
		}
		out = append(out, token)
	}
}

func TestMisbehaviour(t *testing.T) {
	if got := answers(t, fleetsim.Misbehaviour{}, 3); !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("none: %v", got)
	}
	if got := answers(t, fleetsim.Misbehaviour{DropAnswers: 1}, 3); len(got) != 0 {
		t.Errorf("DropAnswers: %v", got)
	}
	if got := answers(t, fleetsim.Misbehaviour{DropToken: 1}, 2); !slices.Equal(got, []string{"-", "-"}) {
		t.Errorf("DropToken: %v", got)
	}
	if got := answers(t, fleetsim.Misbehaviour{RejectRate: 1}, 2); !slices.Equal(got, []string{"0!", "1!"}) {
		t.Errorf("RejectRate: %v", got)
	}
	if got := answers(t, fleetsim.Misbehaviour{Duplicate: 1}, 2); !slices.Equal(got, []string{"0", "0", "1", "1"}) {
		t.Errorf("Duplicate: %v", got)
	}
	if got := answers(t, fleetsim.Misbehaviour{Reorder: 1, ReorderWait: time.Hour}, 4); !slices.Equal(got, []string{"1", "0", "3", "2"}) {
		t.Errorf("Reorder: %v", got)
	}
	some := answers(t, fleetsim.Misbehaviour{Seed: 7, DropAnswers: 0.5}, 20)
	if len(some) < 4 || len(some) > 16 {
		t.Errorf("half of 20: %v", some)
	}
	if again := answers(t, fleetsim.Misbehaviour{Seed: 7, DropAnswers: 0.5}, 20); !slices.Equal(some, again) {
		t.Errorf("the same seed: %v and %v", some, again)
	}
}

// A message that is to be overtaken goes in the end though no other comes.
func TestReorderedLast(t *testing.T) {
	sim := start(t, fleetsim.Options{Misbehaviour: fleetsim.Misbehaviour{Reorder: 1, ReorderWait: time.Millisecond}})
	newDevice(t, sim.BrokerURL()).ask("jobs/get", `{}`, "accepted")
}

func TestLateAnswers(t *testing.T) {
	sim := start(t, fleetsim.Options{Misbehaviour: fleetsim.Misbehaviour{LateAnswers: 40 * time.Millisecond}})
	d := newDevice(t, sim.BrokerURL())
	for i := range 20 {
		d.send(prefix+"jobs/get", fmt.Sprintf(`{"clientToken":"%d"}`, i))
	}
	seen := map[string]bool{}
	for range 20 {
		seen[d.receive("accepted").Get("clientToken").String()] = true
	}
	if len(seen) != 20 {
		t.Errorf("%d different answers", len(seen))
	}
}

func TestMisbehaviourIsChecked(t *testing.T) {
	sim := start(t, fleetsim.Options{})
	for _, m := range []fleetsim.Misbehaviour{{Duplicate: 1.1}, {Reorder: -0.1}, {LateAnswers: -1}} {
		if err := sim.SetMisbehaviour(m); err == nil {
			t.Errorf("%+v was accepted", m)
		}
	}
}
