package local

import (
	"cmp"
	"math"
	"slices"
	"time"

	"fleetbridge/bridge/local/door"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// maxSubs is how many subscriptions a connection may have, also one of the bridge's own, which has some for each
	// Thing and each user. One costs some 700 bytes, in a queue group 2200.
	maxSubs = 64 << 10
	// accountSubs is how many all connections of a user may have, which is 12 MiB, or 36 MiB in queue groups. Beyond it
	// the one that has most is closed.
	accountSubs = 16 << 10
	// anybodySubs is the same for all programs together when there are no users.
	anybodySubs = 64 << 10
)

// cutSubscribed closes connections of those who have more subscriptions than their share. A connection makes some ten
// thousand of them from one call to the next.
func (s *Server) cutSubscribed(said *time.Time) {
	for _, over := range s.overSubscribed() {
		_ = s.nats.DisconnectClientByID(over.Cid) // or it has gone
		if flow.Due(said, time.Now()) {
			s.log.Warn("a program has more subscriptions than there is room for, its connection is closed", "user", over.AuthorizedUser,
				"name", over.Name, "subscriptions", over.NumSubs)
		}
	}
}

// overSubscribed lists a connection of each account that has more than its share: the one that has most.
func (s *Server) overSubscribed() (out []*server.ConnInfo) {
	share := map[string]int{}
	if s.logins == nil {
		share[server.DEFAULT_GLOBAL_ACCOUNT] = anybodySubs
	} else {
		for _, name := range s.logins.Accounts() {
			share[name] = accountSubs
		}
	}
	for name, n := range share {
		account, err := s.nats.LookupAccount(name)
		if err != nil || account.TotalSubs() <= n {
			continue
		}
		if most := mostOf(s.connsOf(name), n); most != nil {
			out = append(out, most)
		}
	}
	return out
}

// connsOf are the connections of an account. All are asked for: with an account in the question the server looks at those, too,
// that it is just setting up, without their lock.
func (s *Server) connsOf(account string) []*server.ConnInfo {
	list, err := s.nats.Connz(&server.ConnzOptions{Username: true, Limit: 2 * door.MaxConns})
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(list.Conns, func(c *server.ConnInfo) bool {
		return cmp.Or(c.Account, server.DEFAULT_GLOBAL_ACCOUNT) != account
	})
}

// mostOf is the connection with most subscriptions, if all have more than n. Connections within the process don't count.
func mostOf(conns []*server.ConnInfo, n int) (most *server.ConnInfo) {
	total := 0
	for _, c := range conns {
		if c.Port == 0 {
			continue
		}
		total += int(c.NumSubs)
		if most == nil || c.NumSubs > most.NumSubs {
			most = c
		}
	}
	if total <= n {
		return nil
	}
	return most
}

// onlyWith reports whether there are subscriptions that a subject of the bridge's account reaches, and another one reaches
// all of them, too. It costs something only when the other one reaches any.
func (s *Server) onlyWith(subject, other string) bool {
	account := s.nats.GlobalAccount()
	if account.Interest(other) == 0 {
		return false
	}
	list, err := s.nats.Subsz(&server.SubszOptions{Subscriptions: true, Account: account.Name, Test: subject, Limit: math.MaxInt32})
	if err != nil || len(list.Subs) == 0 {
		return false
	}
	return !slices.ContainsFunc(list.Subs, func(sub server.SubDetail) bool {
		_, both := wire.Intersect(sub.Subject, other)
		return !both
	})
}
