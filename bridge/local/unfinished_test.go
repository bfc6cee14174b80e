package local

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"fleetbridge/mapping"
)

// TestUnfinishedMessages: who begins more and more large messages and ends none is disconnected, another user is not, and
// the same one may begin again.
func TestUnfinishedMessages(t *testing.T) {
	r := withUsers(t, User{Name: "a", Things: []mapping.Thing{"a"}}, User{Name: "b", Things: []mapping.Thing{"b"}})
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
	most := maxUnfinished / size
	for range 2 * most {
		login().write("%s", half)
	}
	eventually(r.t, "those beyond are closed", func() bool { return r.server.held("a") <= most })
	if got := r.server.begun("a"); got > maxUnfinished {
		r.t.Errorf("%d bytes are begun", got)
	}
}

// TestUnfinishedOfOthers: without users, too, a program that begins few messages, of any size, and ends them, is not
// disconnected for somebody else's.
func TestUnfinishedOfOthers(t *testing.T) {
	r := newRig(t, "a")
	r.journal.forgive(" - cid:", "begin more large messages", " nowhere")
	size := int(r.nc.MaxPayload())
	half := fmt.Sprintf("PUB x %d\r\n%s", size, strings.Repeat("x", 1000))
	for range maxUnfinished / size {
		rawLogin(t, r.server.URL(), "").write("%s", half)
	}
	eventually(t, "all are begun", func() bool { return r.server.begun("") == maxUnfinished })
	other := rawLogin(t, r.server.URL(), "")
	for _, size := range []int{2, size} {
		other.write("PUB x %d\r\nx", size)
		eventually(t, "it is begun", func() bool { return r.server.isBegun(other.conn.LocalAddr().String()) == size })
		other.write("%s\r\n", strings.Repeat("x", size-1))
		other.flush()
	}
	r.journal.expect(t, "WARN", "begin more large messages")
}

// TestUnfinishedClaims: a message that is larger than the server takes is not counted as begun, by whoever: with such
// claims a stranger would have the connections of others closed.
func TestUnfinishedClaims(t *testing.T) {
	r := newRig(t, "a")
	r.journal.forgive(" - cid:", " nowhere")
	size := int(r.nc.MaxPayload())
	other := rawLogin(t, r.server.URL(), "")
	other.write("PUB x %d\r\nx", size)
	eventually(t, "it is begun", func() bool { return r.server.isBegun(other.conn.LocalAddr().String()) == size })
	for _, claim := range []string{"PUB x 100000000", "PUB x 9223372036854775807", "HPUB x 12 100000000", fmt.Sprintf("PUB x %d", size+1)} {
		c := rawLogin(t, r.server.URL(), "")
		c.write("%s\r\nx", claim)
		if said, _ := io.ReadAll(c.in); strings.Contains(string(said), "PONG") { // and the server hangs up
			t.Errorf("%s: %q", claim, said)
		}
		if got := r.server.begun(""); got != size {
			t.Errorf("%s: %d bytes are begun", claim, got)
		}
	}
	other.write("%s\r\n", strings.Repeat("x", size-1))
	other.flush()
}

// isBegun is how large the message is that a connection is in the middle of.
func (s *Server) isBegun(from string) int {
	s.door.begun.mu.Lock()
	defer s.door.begun.mu.Unlock()
	for _, b := range s.door.begun.of {
		for a := range b.conns {
			if a.from.String() == from {
				return a.begun.size
			}
		}
	}
	return 0
}

// held is how many connections a user has.
func (s *Server) held(user string) int {
	s.door.mu.Lock()
	defer s.door.mu.Unlock()
	return s.door.room.users.Of(user)
}

// begun is how many bytes of unfinished messages a user has.
func (s *Server) begun(user string) int {
	s.door.begun.mu.Lock()
	defer s.door.begun.mu.Unlock()
	if b := s.door.begun.of[user]; b != nil {
		return b.bytes
	}
	return 0
}

func TestUnfinished(t *testing.T) {
	r := readAlong{published: func([]byte, bool) bool { return false }}
	for _, c := range []struct {
		text string
		want int
	}{{"PUB a 5\r\nhel", 5}, {"lo", 5}, {"\r\nPING\r\nPU", 0}, {"B b 100\r", 0}, {"\n", 100}, {strings.Repeat("x", 102) + "HPUB c 12 20\r\nNATS", 20}} {
		r.look([]byte(c.text))
		if got := r.unfinished(); got != c.want {
			t.Errorf("after %.20q: %d, want %d", c.text, got, c.want)
		}
	}
}
