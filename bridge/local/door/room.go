package door

import (
	"log/slog"
	"time"

	"fleetbridge/internal/flow"
)

// room is how many connections the listener has room for, and who has them.
type room struct {
	users, operators flow.Quota
}

// Limits are numbers of connections.
type Limits struct {
	Strangers int // who have not logged in; for one more the oldest goes
	Users     int // of all users
	Operators int // of `fleetbridge dead` and its like, for whom nobody else leaves no room
}

const (
	// MaxConns is how many connections there are at most. One costs some 30 KiB.
	MaxConns = 4096
	// fewConns is when the bridge warns that the limit of open files leaves only so many.
	fewConns = 1024
	// ownFiles is what the process has open besides connections and the store: pages, logs, certificates.
	ownFiles = 256
	// leastConns are there however few files there may be.
	leastConns = 32
)

// roomFor divides what may be open, 0 without limit: of what the process doesn't need itself, one half is for
// connections, the other for the store and the sessions with the broker.
func roomFor(files uint64) Limits {
	all := MaxConns
	if files > 0 {
		all = max(leastConns, int(min(files, 1<<20)-min(files, ownFiles))/2)
	}
	all = min(all, MaxConns)
	l := Limits{Strangers: max(8, min(all/4, 512)), Operators: max(4, min(all/16, 16))}
	l.Users = all - l.Strangers - l.Operators
	return l
}

// stay is how long a stranger stays at least, however many wait behind it: time to log in. With room for 512 it is an
// eighth of a second, with 96 (1,024 open files) 23 ms.
func (l Limits) stay() time.Duration {
	return max(leastStay, backlogTurn*time.Duration(l.Strangers)/backlog)
}

// fading is how many closed connections the server may have yet to see to: strangers are let go no faster than that, and
// who wants to log in has his time also where the processor is busy.
func (l Limits) fading() int { return max(l.Strangers/4, 2) }

func (l Limits) All() int { return l.Strangers + l.Users + l.Operators }

// Place says whose a connection is.
type Place struct {
	User     string
	Operator bool
	anybody  bool // there are no users
}

func newRoom(l Limits) room {
	return room{users: flow.Quota{Limit: l.Users}, operators: flow.Quota{Limit: l.Operators}}
}

// enter reports whether there was room.
func (r *room) enter(p Place) bool {
	switch {
	case p.Operator:
		return r.operators.TakeAny("")
	case p.anybody:
		return r.users.TakeAny("")
	}
	return r.users.Take(p.User)
}

func (r *room) leave(p Place) {
	if p.Operator {
		r.operators.Give("")
		return
	}
	r.users.Give(p.User)
}

// LimitsOf is how many connections there may be. The open files that they need must not be taken from the store.
func LimitsOf(log *slog.Logger) Limits {
	files := OpenFiles()
	limits := roomFor(files)
	if limits.All() < fewConns {
		log.Warn("the limit of open files is small: programs have few connections; raise it (LimitNOFILE=65536 in the unit, --ulimit nofile=65536 of the container, ulimit -n)",
			"open_files", files, "connections", limits.All())
	}
	return limits
}
