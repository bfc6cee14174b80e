package embedded

import (
	"math"
	"runtime/metrics"
	"slices"
	"time"

	"fleetbridge/bridge/local/door"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"

	"github.com/nats-io/nats-server/v2/server"
)

// What programs don't read waits for them in memory. The server bounds that for each connection, and a login has
// thousands of them: one small request, whose answer all of them subscribe to, would take gigabytes.

const (
	// maxUnread is how many bytes may wait for all connections of a login, or without users for those of all programs. The
	// server has as much for one connection.
	maxUnread = server.MAX_PENDING_SIZE
	// sharePause is between two counts while programs send. While they don't, what the cloud sends may wait for them, and
	// shareIdle is soon enough. While nobody sends anything, only a consumer that hands out what is stored makes more unread:
	// shareRest bounds what a slow one can heap up.
	sharePause = 50 * time.Millisecond
	shareIdle  = time.Second
	shareRest  = 3 * time.Second
)

// watchShares closes connections of those who have more than their share, of what is unread and of subscriptions, until
// the server stops. What is sent has it look at once, if programs send much, or soon, and once more behind that.
func (s *Server) watchShares() {
	later := time.NewTimer(shareRest)
	defer later.Stop()
	var saidUnread, saidSubscribed time.Time
	for soon := false; ; {
		stirred, much := s.stirred, false
		if soon {
			stirred = nil
		}
		select {
		case <-s.stopping:
			return
		case <-stirred:
			soon = true
			later.Reset(shareIdle)
			continue
		case <-later.C:
			soon = false
			later.Reset(shareRest)
		case <-s.door.Sending:
			much = true
		}
		s.cutSubscribed(&saidSubscribed)
		if inMemory() >= maxUnread { // else nobody can have so much
			s.cutUnread(&saidUnread)
		}
		if !much {
			continue
		}
		select {
		case <-s.stopping:
			return
		case <-time.After(sharePause):
		}
	}
}

// cutUnread closes what is over.
func (s *Server) cutUnread(said *time.Time) {
	over := s.unread()
	if len(over) == 0 {
		return
	}
	if flow.Due(said, time.Now()) {
		s.log.Warn("programs leave more unread than there is room for; connections of theirs are closed", "user", over[0].AuthorizedUser,
			"name", wire.ProgramText(over[0].Name), "bytes", over[0].Pending, "connections", len(over))
	}
	s.door.Cut(over)
	for _, c := range over {
		_ = s.nats.DisconnectClientByID(c.Cid) // or it has gone
	}
}

// inMemory is how many bytes the process has in use, or has not given back yet.
func inMemory() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	if metrics.Read(sample); sample[0].Value.Kind() != metrics.KindUint64 {
		return math.MaxUint64 // so they are always counted
	}
	return sample[0].Value.Uint64()
}

// unread lists what is to be closed.
func (s *Server) unread() (out []*server.ConnInfo) {
	list, err := s.nats.Connz(&server.ConnzOptions{Username: true, Limit: 2 * door.MaxConns})
	if err != nil {
		return nil
	}
	of := map[string][]*server.ConnInfo{}
	for _, c := range list.Conns {
		if c.Port != 0 { // else it is within the process
			of[c.Account] = append(of[c.Account], c)
		}
	}
	for _, conns := range of {
		out = append(out, beyond(conns, maxUnread, unreadOf)...)
	}
	return out
}

// unreadOf is how many bytes wait for a connection.
func unreadOf(c *server.ConnInfo) int { return c.Pending }

// beyond are the connections that have most of something, without which all have at most so much.
func beyond(conns []*server.ConnInfo, most int, of func(*server.ConnInfo) int) []*server.ConnInfo {
	all, each := 0, make(map[*server.ConnInfo]int, len(conns))
	for _, c := range conns {
		each[c] = of(c)
		all += each[c]
	}
	slices.SortFunc(conns, func(a, b *server.ConnInfo) int { return each[b] - each[a] })
	n := 0
	for ; all > most; n++ {
		all -= each[conns[n]]
	}
	return conns[:n]
}
