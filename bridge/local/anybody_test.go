package local

import (
	"bufio"
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// TestNobodySpeaksForTheCloud: without users programs may do everything but publish where the bridge alone does.
func TestNobodySpeaksForTheCloud(t *testing.T) {
	t.Parallel()
	r := newRig(t, "a")
	r.journal.forgive("Violation")
	heard := r.subscribe("fleets.down.>")
	nc := r.program(nats.UserInfo("whoever", "whatever")) // who has a login from elsewhere may keep it
	for _, subject := range []string{"fleets.down.a.shadow.update", "fleets.dead.down.a.x", "_fleets.down.a.shadow.update", "_fleets.dead.down.a.x", "_fleets.down.fence"} {
		if may(t, nc, "pub", subject) {
			t.Errorf("a program published on %s", subject)
		}
	}
	for _, subject := range []string{"fleets.up.a.events.x", "fleets.cmd.a.x", "fleets.req.a.jobs.get", "_INBOX.x", "mine", "$KV.FLEETS_SHADOW.a"} {
		if !may(t, nc, "pub", subject) {
			t.Errorf("a program may not publish on %s", subject)
		}
	}
	for _, subject := range []string{">", "fleets.>", "fleets.down.>", "$SYS.>"} {
		if !may(t, nc, "sub", subject) {
			t.Errorf("a program may not subscribe to %s", subject)
		}
	}
	raw, err := net.Dial("tcp", strings.TrimPrefix(r.server.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	if info, err := bufio.NewReader(raw).ReadString('\n'); err != nil || strings.Contains(info, `"auth_required":true`) {
		t.Errorf("the server greets with %s, %v", info, err)
	}
	down(t, r, notice("a", `{"n":1}`))
	if m, err := heard.NextMsg(patience); err != nil || string(m.Data) != `{"n":1}` {
		t.Errorf("the first that came down is %v, %v", m, err)
	}
}
