package embedded

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"fleetbridge/bridge/local/door"
	"fleetbridge/internal/flow"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	// maxSubs is how many subscriptions a connection may have, also one of the bridge's own, which has some for each
	// Thing and each user. One costs some 700 bytes, in a queue group 2200.
	maxSubs = 64 << 10
	// accountSubs is how many all connections of a user may have, which is 12 MiB, or 36 MiB in queue groups. Beyond it
	// those that have most are closed.
	accountSubs = 16 << 10
	// anybodySubs is the same for all programs together when there are no users.
	anybodySubs = 64 << 10
	// inboxHearers and otherHearers are how many subscriptions in a group one message may reach: see hearers. What the bridge
	// answers is delivered to one after the other, at a microsecond each and more, and everybody waits for that.
	inboxHearers = 128
	otherHearers = 256
	// hearersRest is between two looks at an account that has as many subscriptions as before.
	hearersRest = time.Second
)

// cutSubscribed closes connections of those who have more subscriptions than their share. A connection makes some ten
// thousand of them from one call to the next.
func (s *Server) cutSubscribed(said *time.Time) {
	closed := s.overSubscribed()
	s.door.Cut(closed)
	for _, over := range closed {
		_ = s.nats.DisconnectClientByID(over.Cid) // or it has gone
		if flow.Due(said, time.Now()) {
			s.log.Warn("a program has more subscriptions than there is room for, or more that one message reaches; its connection is closed", "user", over.AuthorizedUser,
				"name", fmt.Sprintf("%.200q", over.Name), "subscriptions", over.NumSubs, "count_as", subsOf(over), "connections", len(closed))
		}
	}
}

// overSubscribed lists what is to be closed of each account that has more than its share: the connections that have most
// subscriptions, and those by which one message has too many hearers.
func (s *Server) overSubscribed() (out []*server.ConnInfo) {
	most, accounts := anybodySubs, []string{server.DEFAULT_GLOBAL_ACCOUNT}
	if s.logins != nil {
		most, accounts = accountSubs, s.logins.Accounts()
	}
	for _, name := range accounts {
		account, err := s.nats.LookupAccount(name)
		if err != nil || account.TotalSubs() <= inboxHearers {
			delete(s.counted, name)
			continue
		}
		before, now := s.counted[name], time.Now()
		if n := account.TotalSubs(); n == before.subs && now.Sub(before.at) < hearersRest {
			continue
		}
		if s.counted == nil {
			s.counted = map[string]lastCount{}
		}
		s.counted[name] = lastCount{account.TotalSubs(), now}
		conns := slices.DeleteFunc(s.connsOf(name), func(c *server.ConnInfo) bool { return c.Port == 0 }) // the bridge's own
		if len(beyond(conns, inboxHearers, subsOf)) == 0 {
			continue
		}
		conns = s.detailed(conns)
		out = append(out, beyond(conns, most, subsOf)...)
		out = append(out, tooManyHear(conns)...)
	}
	return out
}

// lastCount is what was seen of an account.
type lastCount struct {
	subs int
	at   time.Time
}

// detailed asks for what the connections are subscribed to. It leaves out who has gone.
func (s *Server) detailed(conns []*server.ConnInfo) (out []*server.ConnInfo) {
	for _, c := range conns {
		one, err := s.nats.Connz(&server.ConnzOptions{Username: true, CID: c.Cid, Subscriptions: true, SubscriptionsDetail: true})
		if err == nil {
			out = append(out, one.Conns...)
		}
	}
	return out
}

// tooManyHear are the connections that have most of the subscriptions that one message reaches, without which these are
// few enough.
func tooManyHear(conns []*server.ConnInfo) (out []*server.ConnInfo) {
	all, of, bound := map[string]int{}, make([]map[string]int, len(conns)), map[string]int{}
	queues := map[string]bool{} // of a queue group one gets a message
	for i, c := range conns {
		of[i] = map[string]int{}
		for _, sub := range c.SubsDetail {
			if queue := sub.Queue + " " + sub.Subject; sub.Queue != "" {
				if queues[queue] {
					continue
				}
				queues[queue] = true
			}
			group, most := hearers(sub.Subject)
			bound[group] = most
			all[group]++
			of[i][group]++
		}
	}
	closed := make([]bool, len(conns))
	for group, n := range all {
		most := bound[group]
		if n <= most {
			continue
		}
		var have []int
		for i := range conns {
			if of[i][group] > 0 {
				have = append(have, i)
			}
		}
		slices.SortFunc(have, func(a, b int) int { // of those with as many the newest goes first
			return cmp.Or(of[b][group]-of[a][group], cmp.Compare(conns[b].Cid, conns[a].Cid))
		})
		for _, i := range have {
			if n <= most {
				break
			}
			n -= of[i][group]
			if !closed[i] {
				closed[i] = true
				out = append(out, conns[i])
			}
		}
	}
	return out
}

// hearers names the group of a subscription, and how many may be in it. One message reaches those of one group, and those with
// a wildcard in the place by which groups are told apart: in an inbox the second token, which is its program's own, in another
// subject the third, mostly the Thing.
func hearers(subject string) (group string, most int) {
	tokens, rest, most, group := 3, "*", otherHearers, ""
	if strings.HasPrefix(subject, strings.TrimSuffix(nats.InboxPrefix, ".")) {
		tokens, rest, most = 2, "inboxes", inboxHearers
	}
	for n, token := range strings.Split(subject, ".") {
		switch {
		case n == tokens:
			return group + ".", most
		case token == "*" || token == ">":
			return rest, most
		}
		group += "." + token
	}
	return group, most
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

// subsOf is for how many subscriptions those of a connection count: one with much text, or with many tokens, counts for
// several, because it costs as much memory.
func subsOf(c *server.ConnInfo) int {
	n := int(c.NumSubs)
	for _, sub := range c.SubsDetail {
		n += (len(sub.Subject)+len(sub.Queue)+len(sub.Sid))/64 + strings.Count(sub.Subject, ".")/8
	}
	return n
}
