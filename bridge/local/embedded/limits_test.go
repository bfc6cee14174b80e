package embedded

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

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

// A subscription with a long subject counts for several.
func TestSubsOf(t *testing.T) {
	t.Parallel()
	many := &server.ConnInfo{NumSubs: 1, SubsDetail: []server.SubDetail{{Subject: "_INBOX_a" + strings.Repeat(".x", 16-1)}}}
	if n := subsOf(many); n != 2 {
		t.Errorf("one with as many tokens as there may be counts as %d", n)
	}
}

func TestHearers(t *testing.T) {
	t.Parallel()
	for subject, want := range map[string]string{
		"_INBOX.x": "._INBOX.x", "_INBOX.x.1": "._INBOX.x.", "_INBOX_a.x.*": "._INBOX_a.x.", "_INBOX_a.*.x": "inboxes", "_INBOX_a.>": "inboxes", ">": "*",
		"fleets.down.a.>": ".fleets.down.a.", "fleets.down.a.events.x": ".fleets.down.a.", "fleets.down.*.events.x": "*", "fleets.down.>": "*", "fleets.down": ".fleets.down", "*.down.a": "*",
	} {
		if got, _ := hearers(subject); got != want {
			t.Errorf("%s: %q, want %q", subject, got, want)
		}
	}
}

// TestTooManyHear: those that have most of what one message reaches; of a queue group only one gets it.
func TestTooManyHear(t *testing.T) {
	t.Parallel()
	conn := func(id uint64, n int, subject, queue string) *server.ConnInfo {
		c := &server.ConnInfo{Cid: id}
		for i := range n {
			s := server.SubDetail{Subject: strings.ReplaceAll(subject, "#", fmt.Sprint(i)), Queue: queue}
			c.SubsDetail = append(c.SubsDetail, s)
		}
		return c
	}
	for name, c := range map[string]struct {
		conns []*server.ConnInfo
		over  int
	}{
		"inboxes of their own": {[]*server.ConnInfo{conn(1, 1500, "_INBOX_a.own#.>", "")}, 0},
		"one queue group":      {[]*server.ConnInfo{conn(1, 1500, "fleets.cmd.a.x", "workers")}, 0},
		"the same inbox":       {[]*server.ConnInfo{conn(1, 100, "_INBOX_a.x.>", ""), conn(2, 100, "_INBOX_a.x.>", "")}, 1},
		"few":                  {[]*server.ConnInfo{conn(1, inboxHearers, "_INBOX_a.x.>", "")}, 0},
	} {
		if over := tooManyHear(c.conns); len(over) != c.over {
			t.Errorf("%s: %d connections are too many", name, len(over))
		}
	}
}
