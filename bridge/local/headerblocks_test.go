package local

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/services"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// blocksTooLarge are header blocks that cost a lot to read, or to keep.
func blocksTooLarge() map[string]string {
	lines := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "k%d:\r\n", i)
		}
		return b.String()
	}
	return map[string]string{
		"a few more lines than are read": lines(wire.MaxHeaderLines + 10),
		"as many as there is room for":   lines(120_000),
		"one key again and again":        strings.Repeat("k:\r\n", 250_000),
		"lines without a key":            strings.Repeat(":\r\n", 300_000),
		"a long value":                   "k:" + strings.Repeat("x", 1_000_000) + "\r\n",
		"a long key":                     strings.Repeat("x", 1_000_000) + ":\r\n",
		"a long id":                      "Nats-Msg-Id: " + strings.Repeat("x", wire.MaxHeaderBytes) + "\r\n",
	}
}

// TestHeaderBlocksAreBounded: what costs nats.go, or the store, a lot is refused with a word, also as a request; what
// comes behind it on the connection is read as it is.
func TestHeaderBlocksAreBounded(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, embedded.Config{MaxPayload: 2 << 20, Users: []access.User{{Name: "alice", Password: "secret", Things: []mapping.Thing{"pump"}}}}, StoreConfig{})
	handled := make(chan bridge.Request, 100)
	s, err := services.Serve(r.nc, handle(func(_ context.Context, q bridge.Request) (bridge.Response, error) {
		handled <- q
		return bridge.Response{Payload: []byte("{}")}, nil
	}), services.Config{Subjects: r.subjects, Version: "1.0.0", Log: r.journal.log()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	c := rawLogin(t, r.server.URL(), "alice")
	for name, lines := range blocksTooLarge() {
		block := "NATS/1.0\r\n" + lines + "\r\n"
		if _, answer := c.request("alice", "fleets.up.pump.events.x", block, "{}"); !strings.Contains(answer, "more than 30 lines") {
			t.Errorf("%s: %.200q", name, answer)
		}
		if header, answer := c.request("alice", "fleets.req.pump.jobs.get", block, "{}"); !strings.Contains(header, "400") {
			t.Errorf("%s, as a request: %.200q %.200q", name, header, answer)
		}
		if _, answer := c.request("alice", "fleets.up.pump.events.x", "NATS/1.0\r\n"+strings.Repeat("k: v\r\n", 20)+"\r\n", "{}"); !strings.Contains(answer, `"seq":`) {
			t.Errorf("behind %s: %.200q", name, answer)
		}
	}
	if len(handled) > 0 {
		t.Errorf("carried out: %v", <-handled)
	}
}
