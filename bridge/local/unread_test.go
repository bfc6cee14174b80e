package local

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"fleetbridge/bridge/local/access"
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

// waiting is how many bytes wait for a login's connections.
func (r *rig) waiting(account string) (n int) {
	for _, c := range r.server.connsOf(account) {
		n += c.Pending
	}
	return n
}

func TestBeyond(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		unread []int
		closed int
	}{{nil, 0}, {[]int{5, 5}, 0}, {[]int{5, 6}, 1}, {[]int{11}, 1}, {[]int{1, 9, 1}, 1}, {[]int{6, 6, 6}, 2}, {[]int{20, 20}, 2}} {
		var conns []*server.ConnInfo
		for _, n := range c.unread {
			conns = append(conns, &server.ConnInfo{Pending: n})
		}
		if got := beyond(conns, 10, unreadOf); len(got) != c.closed {
			t.Errorf("%v: %d closed, want %d", c.unread, len(got), c.closed)
		}
	}
}
