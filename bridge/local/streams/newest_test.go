package streams

import (
	"testing"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/local/natstest"
)

// A replica that stands still takes requests and answers none: another one is asked.
func TestReplicaStandsStill(t *testing.T) {
	t.Parallel()
	nc, asked := natstest.Connect(t), 0
	if _, err := nc.Subscribe("$JS.API.DIRECT.GET.STILL", func(m *nats.Msg) {
		if asked++; asked < 3 {
			return
		}
		answer := nats.NewMsg(m.Reply)
		answer.Header.Set("Status", "204")
		answer.Header.Set("Nats-UpTo-Sequence", "7")
		_ = m.RespondMsg(answer)
	}); err != nil {
		t.Fatal(err)
	}
	if _, upTo, err := Newest(natstest.Context(t), nc, "STILL", "a"); err != nil || upTo != 7 {
		t.Errorf("up to %d, %v", upTo, err)
	}
}
