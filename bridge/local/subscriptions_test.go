package local

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"fleetbridge/bridge/local/access"
	"fleetbridge/mapping"
)

// subscribeMany sends n subscriptions from sid on, and reports whether the connection still answers.
func (c *rawClient) subscribeMany(from, n int, queue string) (said string, open bool) {
	var out bytes.Buffer
	for i := range n {
		fmt.Fprintf(&out, "SUB %s.x%d %s %d\r\n", c.inbox("a"), from+i, queue, from+i)
	}
	out.WriteString("PING\r\n")
	go func() { _, _ = c.conn.Write(out.Bytes()) }() // it may be closed meanwhile
	for {
		line, err := c.in.ReadString('\n')
		switch {
		case err != nil:
			return said, false
		case strings.HasPrefix(line, "PONG"):
			return said, true
		case strings.HasPrefix(line, "-ERR") && !strings.Contains(said, line):
			said += line
		}
	}
}

// What all programs of a user may have, and without users all programs.
const (
	accountSubs = 16 << 10
	anybodySubs = 64 << 10
)

// held are the subscriptions of the programs' connections.
func (r *rig) held(account string) (n int) {
	for _, c := range r.connsOf(account) {
		if c.Port != 0 {
			n += int(c.NumSubs)
		}
	}
	return n
}

// TestLongSubscriptions: what a subscription costs depends on its subject. The attack: as many subscriptions as a login may have,
// with as many tokens, or as many bytes, as a line may have. They took 26 GiB, and 0.7 GiB.
func TestLongSubscriptions(t *testing.T) {
	t.Parallel()
	r := withUsers(t, access.User{Name: "a"})
	r.journal.forgive(" - cid:", "more subscriptions than there is room for")
	most := int(access.MaxSubTokens(r.subjects))
	for n, refused := range map[int]bool{most: false, most + 1: true, 1900: true} {
		c := rawLogin(t, r.server.URL(), "a")
		c.write("SUB _INBOX_a%s 7\r\nPING\r\n", strings.Repeat(".x", n-1))
		if line, err := c.in.ReadString('\n'); err != nil || strings.Contains(line, "too many tokens") != refused {
			t.Errorf("%d tokens: %.100s %v", n, line, err)
		}
	}
	long := strings.Repeat("x", 3900)
	for _, subject := range []string{"_INBOX_a.%[1]d" + long + " %[1]d", "_INBOX_a.%[1]d " + long + " %[1]d", "_INBOX_a.%[1]d " + long + "%[1]d"} { // subject, queue group, number
		c := rawLogin(t, r.server.URL(), "a")
		var out bytes.Buffer
		for i := range accountSubs / 60 {
			fmt.Fprintf(&out, "SUB "+subject+"\r\n", i)
		}
		go func() { _, _ = c.conn.Write(out.Bytes()) }()
		for err := error(nil); err == nil; { // it is closed
			_, err = c.in.ReadString('\n')
		}
	}
	r.journal.expect(t, "more subscriptions than there is room for", "user=a")
}

func TestSubscriptionsOfAConnection(t *testing.T) {
	t.Parallel()
	for _, queue := range []string{"", "workers"} {
		r := withUsers(t, access.User{Name: "a"})
		r.journal.forgive(" - cid:")
		c := rawLogin(t, r.server.URL(), "a")
		if said, open := c.subscribeMany(10, access.MaxUserSubs+1000, queue); !strings.Contains(said, "maximum subscriptions exceeded") || !open {
			t.Errorf("queue %q: %q, open: %v", queue, said, open)
		}
		if n := r.held("program-a"); n != access.MaxUserSubs {
			t.Errorf("queue %q: %d subscriptions", queue, n)
		}
		c.write("UNSUB 20\r\n")
		if said, open := c.subscribeMany(200_000, 1, queue); said != "" || !open {
			t.Errorf("queue %q: none again after one was given back: %q", queue, said)
		}
	}
}

// TestSubscriptionsOfALogin: several connections of one login have one share. Another login's stay.
func TestSubscriptionsOfALogin(t *testing.T) {
	t.Parallel()
	r := withUsers(t, access.User{Name: "a"}, access.User{Name: "b", Things: []mapping.Thing{"b"}})
	r.journal.forgive(" - cid:", "more subscriptions than there is room for")
	other := r.login("b")
	sub, err := other.SubscribeSync("fleets.down.b.>")
	if err != nil {
		t.Fatal(err)
	}
	flush(t, other)
	closed := 0
	conns := make([]*rawClient, 2+accountSubs/access.MaxUserSubs)
	for i := range conns {
		conns[i] = rawLogin(t, r.server.URL(), "a")
		if _, open := conns[i].subscribeMany(10, access.MaxUserSubs-10, ""); !open {
			closed++
		}
	}
	eventually(t, "the login is within its share", func() bool { return r.held("program-a") <= accountSubs })
	r.journal.expect(t, "more subscriptions than there is room for", "user=a")
	if !other.IsConnected() || !sub.IsValid() {
		t.Error("another login lost something")
	}
	rawLogin(t, r.server.URL(), "a") // and it may come again
}

// TestSubscriptionsWithoutUsers: the programs have a share, and the bridge's own connections none of it.
func TestSubscriptionsWithoutUsers(t *testing.T) {
	t.Parallel()
	r := newRig(t, "a")
	r.journal.forgive(" - cid:", "more subscriptions than there is room for")
	for _, n := range []int{anybodySubs / 2, anybodySubs / 2, 1000} {
		rawLogin(t, r.server.URL(), "").subscribeMany(10, n, "")
	}
	eventually(t, "the programs are within their share", func() bool { return r.held(server.DEFAULT_GLOBAL_ACCOUNT) <= anybodySubs })
	r.journal.expect(t, "more subscriptions than there is room for")
	if !r.nc.IsConnected() || r.nc.Stats().Reconnects > 0 {
		t.Error("the bridge lost its connection")
	}
}

// TestHearersOfALogin: what the bridge answers is delivered to each subscription to it, one after the other, and everybody
// waits for that. So the subscriptions that one message reaches are bounded. The attack: a login's connections that all
// subscribe to the same, and small requests.
func TestHearersOfALogin(t *testing.T) {
	t.Parallel()
	r := withUsers(t, access.User{Name: "a", Things: []mapping.Thing{"a"}, Allow: []string{access.AllowCommands}}, access.User{Name: "b", Things: []mapping.Thing{"b"}})
	r.journal.forgive(" - cid:", "more that one message reaches")
	other := r.login("b")
	flush(t, other)
	for name, subject := range map[string]string{
		"the same": "_INBOX_a.>", "one program's": "_INBOX_a.x.>", "wildcards": "_INBOX_a.*.x%d", "commands": "fleets.cmd.a.>", "queues": "_INBOX_a.> q%d",
	} {
		var conns []*rawClient
		for range 3 {
			c := rawLogin(t, r.server.URL(), "a")
			conns = append(conns, c)
			var out bytes.Buffer
			for i := range 1000 {
				line := subject
				if strings.Contains(subject, "%d") {
					line = fmt.Sprintf(subject, i)
				}
				fmt.Fprintf(&out, "SUB %s %d\r\n", line, i+2)
			}
			go func() { _, _ = c.conn.Write(out.Bytes()) }()
		}
		for _, c := range conns { // all of them are closed
			for {
				if _, err := c.in.ReadString('\n'); err != nil {
					break
				}
			}
		}
		eventually(t, name+": the server has let them go", func() bool { return r.held("program-a") == 0 })
	}
	r.journal.expect(t, "more that one message reaches", "user=a")
	c := rawLogin(t, r.server.URL(), "a")
	var out bytes.Buffer
	for i := range 1500 {
		fmt.Fprintf(&out, "SUB _INBOX_a.own%d.> %d\r\nSUB fleets.cmd.a.x workers %d\r\n", i, 2*i+2, 2*i+3)
	}
	c.write("%s", out.String())
	c.flush()
	c.flush()
	if flush(t, other); other.Stats().Reconnects > 0 {
		t.Error("another login was disconnected")
	}
}

// TestLoginIsCutAgainAndAgain: who comes again each time that it is cut, costs the server all its subscriptions again. So a
// login whose connections are cut again and again gets no new ones for a while; its others and other logins don't notice.
func TestLoginIsCutAgainAndAgain(t *testing.T) {
	t.Parallel()
	r := withUsers(t, access.User{Name: "a"}, access.User{Name: "b", Things: []mapping.Thing{"b"}})
	r.journal.forgive(" - cid:", "more that one message reaches", "closed again and again")
	good := rawLogin(t, r.server.URL(), "a")
	many := ""
	for i := range 300 { // more than one message may reach
		many += fmt.Sprintf("SUB _INBOX_a.> %d\r\n", i+10)
	}
	for cuts := 0; ; cuts++ {
		c, _ := rawGreeted(t, r.server.URL())
		_, _ = fmt.Fprintf(c.conn, `CONNECT {"verbose":false,"user":"a","pass":"secret"}`+"\r\n%s", many)
		if said, _ := io.ReadAll(c.in); !strings.Contains(string(said), "maximum account active connections") { // until it is cut
			continue
		}
		if cuts < 5 {
			t.Errorf("it was cut %d times only", cuts)
		}
		break
	}
	r.journal.expect(t, "closed again and again", "user=a")
	good.flush()
	flush(t, r.login("b"))
}
