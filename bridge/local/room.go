package local

import (
	"fleetbridge/internal/flow"
	"time"
)

// room is how many connections the listener has room for, and who has them.
type room struct {
	users, operators flow.Quota
}

// roomLimits are numbers of connections.
type roomLimits struct {
	strangers int // who have not logged in; for one more the oldest goes
	users     int // of all users
	operators int // of `fleetbridge dead` and its like, for whom nobody else leaves no room
}

const (
	// maxConns is how many connections there are at most. One costs some 30 KiB.
	maxConns = 4096
	// fewConns is when the bridge warns that the limit of open files leaves only so many.
	fewConns = 1024
	// ownFiles is what the process has open besides connections and the store: pages, logs, certificates.
	ownFiles = 256
	// leastConns are there however few files there may be.
	leastConns = 32
)

// roomFor divides what may be open, 0 without limit: of what the process doesn't need itself, one half is for
// connections, the other for the store and the sessions with the broker.
func roomFor(files uint64) roomLimits {
	all := maxConns
	if files > 0 {
		all = max(leastConns, int(min(files, 1<<20)-min(files, ownFiles))/2)
	}
	all = min(all, maxConns)
	l := roomLimits{strangers: max(8, min(all/4, 512)), operators: max(4, min(all/16, 16))}
	l.users = all - l.strangers - l.operators
	return l
}

// stay is how long a stranger stays at least, however many wait behind it: time to log in. With room for 512 it is an
// eighth of a second, with 96 (1,024 open files) 23 ms.
func (l roomLimits) stay() time.Duration {
	return max(leastStay, backlogTurn*time.Duration(l.strangers)/backlog)
}

// fading is how many closed connections the server may have yet to see to: strangers are let go no faster than that, and
// who wants to log in has his time also where the processor is busy.
func (l roomLimits) fading() int { return max(l.strangers/4, 2) }

func (l roomLimits) all() int { return l.strangers + l.users + l.operators }

// place says whose a connection is.
type place struct {
	user     string
	operator bool
	anybody  bool // there are no users
}

func newRoom(l roomLimits) room {
	return room{users: flow.Quota{Limit: l.users}, operators: flow.Quota{Limit: l.operators}}
}

// enter reports whether there was room.
func (r *room) enter(p place) bool {
	switch {
	case p.operator:
		return r.operators.TakeAny("")
	case p.anybody:
		return r.users.TakeAny("")
	}
	return r.users.Take(p.user)
}

func (r *room) leave(p place) {
	if p.operator {
		r.operators.Give("")
		return
	}
	r.users.Give(p.user)
}
