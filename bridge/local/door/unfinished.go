package door

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"fleetbridge/internal/flow"
)

// unfinished counts, by user, the messages of which the server has the beginning: it sets aside as many bytes as such a
// message will have, for each connection. Who opens many connections and sends the beginnings of the largest messages
// would take gigabytes. The same goes for long subjects, which the server remembers of each connection, so they count, too.
type unfinished struct {
	mu    sync.Mutex
	of    map[string]*beginnings
	count uint64    // of messages that were begun
	said  time.Time // when it was last said that there are too many
}

// beginnings are a user's; without users, those of all programs.
type beginnings struct {
	bytes int
	conns map[*Arrival]bool
}

// MaxUnfinished is how many bytes a user may have begun, with long subjects; without users, all programs together. Beyond it the connection
// that has begun most is closed, of several the one that began first: without users nobody pays for somebody else.
const MaxUnfinished = 64 << 20

var errUnfinished = errors.New("too many large messages are begun and not sent to their end, or too many subjects are long")

// note takes down how large the message is that a connection is in the middle of; 0: there is none. It fails when the
// connection is to be closed, and closes another one that is.
func (u *unfinished) note(a *Arrival, size int, log *slog.Logger) error {
	if size == a.begun.size { // by the reader alone
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if a.begun.over {
		return nil
	}
	u.forgetLocked(a)
	user := ""
	if p := a.heard.Load(); p != nil {
		user = p.User
	}
	u.count++
	a.begun = begun{user: user, size: size, at: u.count}
	if size == 0 {
		return nil
	}
	b := u.of[user]
	if b == nil {
		if u.of == nil {
			u.of = map[string]*beginnings{}
		}
		b = &beginnings{conns: map[*Arrival]bool{}}
		u.of[user] = b
	}
	b.bytes += size
	b.conns[a] = true
	if b.bytes <= max(MaxUnfinished, size) {
		return nil
	}
	return u.closeLocked(b, a, log)
}

// closeLocked closes the connection that has begun most. The one that asks is told instead.
func (u *unfinished) closeLocked(b *beginnings, a *Arrival, log *slog.Logger) error {
	most := a
	for o := range b.conns {
		if o.begun.size > most.begun.size || o.begun.size == most.begun.size && o.begun.at < most.begun.at {
			most = o
		}
	}
	if flow.Due(&u.said, time.Now()) {
		log.Warn("programs begin more large messages and do not end them, or publish on more long subjects, than there is room for; connections of theirs are closed",
			"user", most.begun.user, "bytes", b.bytes, "connections", len(b.conns))
	}
	u.forgetLocked(most)
	most.begun.over = true
	most.door.punish(most)
	if most == a {
		return errUnfinished
	}
	most.cut()
	return nil
}

// end forgets a connection.
func (u *unfinished) end(a *Arrival) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.forgetLocked(a)
	a.begun.over = true
}

func (u *unfinished) forgetLocked(a *Arrival) {
	b := u.of[a.begun.user]
	if b == nil || !b.conns[a] {
		return
	}
	delete(b.conns, a)
	if b.bytes -= a.begun.size; len(b.conns) == 0 {
		delete(u.of, a.begun.user)
	}
}

// begun is the message that a connection is in the middle of.
type begun struct {
	user string // whose it was when it began
	size int
	at   uint64 // tells which began first
	over bool   // the connection ends
}
