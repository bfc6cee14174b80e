package local

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/door"
	"fleetbridge/mapping"
)

// TestUnreadOfALogin: what a login's connections don't read is bounded in bytes for all of them together, and another
// login's stay. The attack: many connections that subscribe and never read, and one message for all of them.
func TestUnreadOfALogin(t *testing.T) {
	t.Parallel()
	r := withUsers(t, access.User{Name: "a"}, access.User{Name: "b", Things: []mapping.Thing{"b"}})
	r.journal.forgive(" - cid:", "leave more unread than there is room for", "closed again and again")
	other := r.login("b")
	const deaf, size = 60, 60_000
	for range deaf {
		if err := rawLogin(t, r.server.URL(), "a").conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
	}
	flood := rawLogin(t, r.server.URL(), "a")
	flood.write("UNSUB 1\r\n")
	message := fmt.Sprintf("PUB %s.x %d\r\n%s\r\n", flood.inbox("a"), size, strings.Repeat("x", size))
	const maxUnread = server.MAX_PENDING_SIZE
	most := 0
	for range 10 * maxUnread / deaf / size {
		flood.write("%s", message)
		most = max(most, r.waiting("program-a"))
	}
	eventually(t, "those that don't read are closed", func() bool { return r.waiting("program-a") <= maxUnread })
	if most > 4*maxUnread {
		t.Errorf("%d MiB waited for one login", most>>20)
	}
	r.journal.expect(t, "leave more unread than there is room for", "user=a")
	if flush(t, other); other.Stats().Reconnects > 0 {
		t.Error("another login was disconnected")
	}
}

// connsOf are the connections of an account.
func (r *rig) connsOf(account string) []*server.ConnInfo {
	r.t.Helper()
	list, err := r.server.NATS().Connz(&server.ConnzOptions{Username: true, Limit: 2 * door.MaxConns})
	if err != nil {
		r.t.Fatal(err)
	}
	return slices.DeleteFunc(list.Conns, func(c *server.ConnInfo) bool { return cmp.Or(c.Account, server.DEFAULT_GLOBAL_ACCOUNT) != account })
}

// waiting is how many bytes wait for a login's connections.
func (r *rig) waiting(account string) (n int) {
	for _, c := range r.connsOf(account) {
		n += c.Pending
	}
	return n
}
