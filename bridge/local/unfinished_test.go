package local

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/door"
	"fleetbridge/mapping"
)

// TestUnfinishedMessages: who begins more and more large messages and ends none is disconnected, another user is not, and
// the same one may begin again.
func TestUnfinishedMessages(t *testing.T) {
	t.Parallel()
	r := withUsers(t, access.User{Name: "a", Things: []mapping.Thing{"a"}}, access.User{Name: "b", Things: []mapping.Thing{"b"}})
	r.journal.forgive(" - cid:")
	other := r.login("b")
	r.beginsMany(func() *rawClient { return rawLogin(t, r.server.URL(), "a") })
	if flush(t, other); other.Stats().Reconnects > 0 {
		t.Error("another login was disconnected")
	}
}

// beginsMany has a user begin more large messages than it may.
func (r *rig) beginsMany(login func() *rawClient) {
	r.t.Helper()
	size := int(r.nc.MaxPayload())
	r.journal.forgive("begin more large messages")
	half := fmt.Sprintf("PUB fleets.up.a.events.x %d\r\n%s", size, strings.Repeat("x", 1000))
	most := door.MaxUnfinished / size
	for range most + most/8 {
		login().write("%s", half)
	}
	eventually(r.t, "those beyond are closed", func() bool { return r.server.Door().Connections("a") <= most })
	if got := r.server.Door().BegunBy("a"); got > door.MaxUnfinished {
		r.t.Errorf("%d bytes are begun", got)
	}
}

// TestLongSubjectsOfALogin: the server remembers of each connection the subjects that it has published on. The attack: a login's
// connections publish on hundreds of subjects that are as long as a line may be, and stay. Two thousand took 2 GB.
func TestLongSubjectsOfALogin(t *testing.T) {
	t.Parallel()
	r := withUsers(t, access.User{Name: "a", Things: []mapping.Thing{"a"}})
	r.journal.forgive(" - cid:", "publish on more long subjects")
	size := int(r.nc.MaxPayload())
	for range door.MaxUnfinished/size - 1 { // most of the room, which the two share
		rawLogin(t, r.server.URL(), "a").write("PUB fleets.up.a.events.x %d\r\nx", size)
	}
	eventually(t, "they are begun", func() bool { return r.server.Door().BegunBy("a") == door.MaxUnfinished-size })
	c := rawLogin(t, r.server.URL(), "a")
	long := func(i int) string { return fmt.Sprintf("PUB _INBOX_a.%d%s 0\r\n\r\n", i, strings.Repeat("x", 3700)) }
	c.write("%sPUB _INBOX_a.usual 0\r\n\r\n", long(1)+long(2)+long(3))
	c.flush()
	if n := r.server.Door().BegunBy("a") - (door.MaxUnfinished - size); n < 3*3700 || n > 3*3720 {
		t.Errorf("three long subjects count as %d bytes", n)
	}
	var out strings.Builder
	for i := range size/3700 + 1 {
		out.WriteString(long(i))
	}
	go func() { _, _ = c.conn.Write([]byte(out.String())) }() // it is closed meanwhile
	for err := error(nil); err == nil; {
		_, err = c.in.ReadString('\n')
	}
	r.journal.expect(t, "WARN", "publish on more long subjects", "user=a")
}

// TestUnfinishedOfOthers: without users, too, a program that begins few messages, of any size, and ends them, is not
// disconnected for somebody else's.
func TestUnfinishedOfOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t, "a")
	r.journal.forgive(" - cid:", "begin more large messages", " nowhere")
	size := int(r.nc.MaxPayload())
	half := fmt.Sprintf("PUB x %d\r\n%s", size, strings.Repeat("x", 1000))
	for range door.MaxUnfinished / size {
		rawLogin(t, r.server.URL(), "").write("%s", half)
	}
	eventually(t, "all are begun", func() bool { return r.server.Door().BegunBy("") == door.MaxUnfinished })
	other := rawLogin(t, r.server.URL(), "")
	for _, size := range []int{2, size} {
		other.write("PUB x %d\r\nx", size)
		eventually(t, "it is begun", func() bool { return r.server.Door().BegunOn(other.conn.LocalAddr().String()) == size })
		other.write("%s\r\n", strings.Repeat("x", size-1))
		other.flush()
	}
	r.journal.expect(t, "WARN", "begin more large messages")
}

// TestUnfinishedClaims: a message that is larger than the server takes is not counted as begun, by whoever: with such
// claims a stranger would have the connections of others closed.
func TestUnfinishedClaims(t *testing.T) {
	t.Parallel()
	r := newRig(t, "a")
	r.journal.forgive(" - cid:", " nowhere")
	size := int(r.nc.MaxPayload())
	other := rawLogin(t, r.server.URL(), "")
	other.write("PUB x %d\r\nx", size)
	eventually(t, "it is begun", func() bool { return r.server.Door().BegunOn(other.conn.LocalAddr().String()) == size })
	for _, claim := range []string{"PUB x 100000000", "PUB x 9223372036854775807", "HPUB x 12 100000000", fmt.Sprintf("PUB x %d", size+1)} {
		c := rawLogin(t, r.server.URL(), "")
		c.write("%s\r\nx", claim)
		if said, _ := io.ReadAll(c.in); strings.Contains(string(said), "PONG") { // and the server hangs up
			t.Errorf("%s: %q", claim, said)
		}
		if got := r.server.Door().BegunBy(""); got != size {
			t.Errorf("%s: %d bytes are begun", claim, got)
		}
	}
	other.write("%s\r\n", strings.Repeat("x", size-1))
	other.flush()
}
