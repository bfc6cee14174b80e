package access

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"

	"fleetbridge/mapping"
)

// exportAll opens the bridge's account, which is the global one so that a store keeps what it holds
// when the first user is added. Only this process makes accounts, and imports of theirs.
func exportAll(bridge *server.Account, subjects mapping.Subjects) error {
	for _, e := range serviceExports(subjects) {
		answers := server.Singleton
		if e.many {
			answers = server.Streamed
		}
		err := bridge.AddServiceExportWithResponse(e.subject, answers, nil)
		if err == nil && e.wait > 0 {
			err = bridge.SetServiceExportResponseThreshold(e.subject, e.wait)
		}
		if err != nil {
			return fmt.Errorf("export %s: %w", e.subject, err)
		}
	}
	for _, subject := range streamExports(subjects) {
		if err := bridge.AddStreamExport(subject, nil); err != nil {
			return fmt.Errorf("export %s: %w", subject, err)
		}
	}
	return nil
}

// account returns the user's account with the imports that it needs. An account that is there already loses all
// others.
func (l *Logins) account(u User) (*server.Account, error) {
	account, err := l.nats.RegisterAccount(u.Account())
	switch {
	case err == nil:
		l.nats.UpdateAccountClaims(account, bounded(account))
		g := u.grants(l.subjects)
		if err = l.show(account, g.shown); err == nil {
			err = l.widen(account, &grants{}, g)
		}
	case errors.Is(err, server.ErrAccountExists):
		if account, err = l.nats.LookupAccount(u.Account()); err == nil {
			l.link(account, u.grants(l.subjects))
		}
	}
	return account, err
}

// link gives an account exactly these imports. It is what the server does when an account's token is renewed,
// and touches no other account: what the bridge hears of it is the same at any time, if only nothing.
func (l *Logins) link(account *server.Account, g *grants) {
	claims := bounded(account)
	for _, subject := range shownSubjects(l.subjects) {
		claims.Exports.Add(&jwt.Export{Name: subject, Subject: jwt.Subject(subject), Type: jwt.Stream})
	}
	if g != nil {
		for _, ln := range g.services {
			claims.Imports.Add(ln.importOf(jwt.Service))
		}
		for _, ln := range g.streams {
			claims.Imports.Add(ln.importOf(jwt.Stream))
		}
		for _, ln := range g.mapped {
			claims.Mappings[jwt.Subject(ln.here)] = []jwt.WeightedMapping{{Subject: jwt.Subject(ln.there)}}
		}
	}
	l.nats.UpdateAccountClaims(account, claims)
}

// show lets the bridge hear what a new account shows it. It lasts as long as the account. With its first token an
// account's keys are new, for which the server looks at all who import from it; then nobody does yet.
func (l *Logins) show(account *server.Account, links []link) error {
	l.link(account, nil)
	for _, ln := range links {
		if err := l.nats.GlobalAccount().AddMappedStreamImport(account, ln.here, ln.there); err != nil {
			return err
		}
	}
	return nil
}

func (ln link) importOf(kind jwt.ExportType) *jwt.Import {
	return &jwt.Import{Account: server.DEFAULT_GLOBAL_ACCOUNT, Type: kind, Subject: jwt.Subject(ln.there), LocalSubject: jwt.RenamingSubject(ln.here)}
}

// widen adds what an account lacks. What it has stays as it is, so that nothing under way is lost.
func (l *Logins) widen(account *server.Account, before, now *grants) error {
	bridge := l.nats.GlobalAccount()
	var problems []error
	for _, ln := range now.services {
		if !slices.Contains(before.services, ln) {
			problems = append(problems, account.AddServiceImport(bridge, ln.here, ln.there))
		}
	}
	for _, ln := range now.streams {
		if !slices.Contains(before.streams, ln) {
			problems = append(problems, account.AddMappedStreamImport(bridge, ln.there, ln.here))
		}
	}
	for _, ln := range now.mapped {
		if !slices.Contains(before.mapped, ln) {
			problems = append(problems, account.AddMapping(ln.here, ln.there))
		}
	}
	return errors.Join(problems...)
}

// Begin links the users' accounts on a server, whose authentication this is, and lets them log in. It is called before
// anybody connects.
func (l *Logins) Begin(s *server.Server, users []User) error {
	l.nats, l.global = s, s.GlobalAccount()
	if err := l.closeAccount(); err != nil {
		return err
	}
	if err := exportAll(l.global, l.subjects); err != nil {
		return err
	}
	return l.SetUsers(users, nil)
}

// SetUsers changes who may log in and what users may do; things are those that are configured now. Users that are the
// same notice nothing, and neither do those that may act for more Things, or for fewer because those are not configured
// any more. The connections of users that are gone, have another password or key, or other rights, are ended. With an
// error nothing has changed.
func (l *Logins) SetUsers(users []User, things []mapping.Thing) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	c := changes{before: l.all(), things: setOf(things), ended: map[string]bool{}, now: map[string]*server.Permissions{}}
	next, named := make([]*login, len(users)), map[string]bool{}
	for i, u := range users {
		named[u.Name] = true
		var err error
		if next[i], err = l.change(u, &c); err != nil {
			return fmt.Errorf("user %s: %w", u.Name, err)
		}
	}
	l.set(next)
	for name, was := range c.before {
		c.ended[was.as.Account.Name] = c.ended[was.as.Account.Name] || !named[name]
	}
	l.dismiss(c.ended, c.now)
	l.running.Go(func() { l.strip(c.before) })
	return nil
}

// Close ends what SetUsers began. The server still runs.
func (l *Logins) Close() {
	close(l.stopping)
	l.running.Wait()
}

// Accounts are the names of those that the users have now.
func (l *Logins) Accounts() []string {
	var out []string
	for _, one := range l.all() {
		out = append(out, one.as.Account.Name)
	}
	return out
}

// strip takes the imports from the accounts of users that are gone: the server has no way to forget an account. Nobody
// waits for it, as nobody can log in there.
func (l *Logins) strip(before map[string]*login) {
	for name, was := range before {
		select {
		case <-l.stopping:
			return
		default:
		}
		l.changing.Lock()
		if l.all()[name] == nil {
			l.link(was.as.Account, nil)
		}
		l.changing.Unlock()
	}
}

// changes is what SetUsers finds out, by the names of accounts.
type changes struct {
	before map[string]*login // by user
	things map[mapping.Thing]bool
	ended  map[string]bool                // connections have to go
	now    map[string]*server.Permissions // connections get these
}

// change prepares one user. Nobody is who it was before until the logins are set.
func (l *Logins) change(u User, c *changes) (*login, error) {
	was := c.before[u.Name]
	switch {
	case was == nil:
		account, err := l.account(u)
		if err != nil {
			return nil, err
		}
		return l.make(u, account), nil
	case was.Fits(u, c.things) && u.Same(was.User):
		return was, nil
	case was.Fits(u, c.things):
		more := u
		more.Things = was.Lacks(u)
		none := u
		none.Things = nil
		if err := l.widen(was.as.Account, none.grants(l.subjects), more.grants(l.subjects)); err != nil {
			return nil, err
		}
		next := l.make(u, was.as.Account)
		next.Given = slices.Concat(was.Given, more.Things)
		c.now[was.as.Account.Name] = next.as.Permissions
		return next, nil
	case u.sameRights(was.User) && within(was.Given, u.Things): // another password or key
		c.ended[was.as.Account.Name] = true
		return l.make(u, was.as.Account), nil
	}
	c.ended[was.as.Account.Name] = true
	account, err := l.account(u)
	if err != nil {
		return nil, err
	}
	return l.make(u, account), nil
}

// dismiss ends the connections of some accounts, and gives those of others their new permissions.
func (l *Logins) dismiss(ended map[string]bool, wider map[string]*server.Permissions) {
	list, err := l.nats.Connz(&server.ConnzOptions{Username: true, Limit: 1 << 20})
	if err != nil {
		l.log.Error("the connections of users that changed can't be listed, they stay until they end by themselves", "error", err)
		return
	}
	for _, c := range list.Conns {
		permissions := wider[c.Account]
		switch {
		case ended[c.Account]:
			_ = l.nats.DisconnectClientByID(c.Cid) // or it has gone
		case permissions != nil:
			if client := l.nats.GetClient(c.Cid); client != nil {
				client.RegisterUser(&server.User{Permissions: permissions})
			}
		}
	}
}

// MaxUserSubs is how many a user's connection may have; the server says "maximum subscriptions exceeded" to more.
const MaxUserSubs = 4 << 10

// MaxSubTokens is how many tokens a subject may have that is subscribed to: 16, and those of the prefix behind its first. Each
// costs the server some 500 bytes, and as much again in the bridge's account.
func MaxSubTokens(s mapping.Subjects) uint8 {
	return uint8(min(16+strings.Count(s.Prefix(), "."), math.MaxUint8))
}

// bounded are the claims of a user's account without imports.
func bounded(account *server.Account) *jwt.AccountClaims {
	claims := jwt.NewAccountClaims(account.Name)
	claims.Name = account.Name
	claims.Limits.Subs = MaxUserSubs
	return claims
}

// closeAccount makes an account that takes no connection: the server says "maximum account active connections exceeded".
func (l *Logins) closeAccount() (err error) {
	if l.nobodys, err = l.nats.RegisterAccount(reservedUser + "-full"); err != nil {
		return err
	}
	claims := bounded(l.nobodys)
	claims.Limits.Conn = 0
	l.nats.UpdateAccountClaims(l.nobodys, claims)
	return nil
}
