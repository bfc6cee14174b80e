package local

import (
	"errors"
	"fmt"
	"slices"

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
func (s *Server) account(u User) (*server.Account, error) {
	account, err := s.nats.RegisterAccount(u.account())
	switch {
	case err == nil:
		s.nats.UpdateAccountClaims(account, bounded(account))
		g := u.grants(s.subjects)
		if err = s.show(account, g.shown); err == nil {
			err = s.widen(account, &grants{}, g)
		}
	case errors.Is(err, server.ErrAccountExists):
		if account, err = s.nats.LookupAccount(u.account()); err == nil {
			s.link(account, u.grants(s.subjects))
		}
	}
	return account, err
}

// link gives an account exactly these imports. It is what the server does when an account's token is renewed,
// and touches no other account: what the bridge hears of it is the same at any time, if only nothing.
func (s *Server) link(account *server.Account, g *grants) {
	claims := bounded(account)
	for _, subject := range shownSubjects(s.subjects) {
		claims.Exports.Add(&jwt.Export{Name: subject, Subject: jwt.Subject(subject), Type: jwt.Stream})
	}
	if g != nil {
		for _, l := range g.services {
			claims.Imports.Add(l.importOf(jwt.Service))
		}
		for _, l := range g.streams {
			claims.Imports.Add(l.importOf(jwt.Stream))
		}
		for _, l := range g.mapped {
			claims.Mappings[jwt.Subject(l.here)] = []jwt.WeightedMapping{{Subject: jwt.Subject(l.there)}}
		}
	}
	s.nats.UpdateAccountClaims(account, claims)
}

// show lets the bridge hear what a new account shows it. It lasts as long as the account. With its first token an
// account's keys are new, for which the server looks at all who import from it; then nobody does yet.
func (s *Server) show(account *server.Account, links []link) error {
	s.link(account, nil)
	for _, l := range links {
		if err := s.nats.GlobalAccount().AddMappedStreamImport(account, l.here, l.there); err != nil {
			return err
		}
	}
	return nil
}

func (l link) importOf(kind jwt.ExportType) *jwt.Import {
	return &jwt.Import{Account: server.DEFAULT_GLOBAL_ACCOUNT, Type: kind, Subject: jwt.Subject(l.there), LocalSubject: jwt.RenamingSubject(l.here)}
}

// widen adds what an account lacks. What it has stays as it is, so that nothing under way is lost.
func (s *Server) widen(account *server.Account, before, now *grants) error {
	bridge := s.nats.GlobalAccount()
	var problems []error
	for _, l := range now.services {
		if !slices.Contains(before.services, l) {
			problems = append(problems, account.AddServiceImport(bridge, l.here, l.there))
		}
	}
	for _, l := range now.streams {
		if !slices.Contains(before.streams, l) {
			problems = append(problems, account.AddMappedStreamImport(bridge, l.there, l.here))
		}
	}
	for _, l := range now.mapped {
		if !slices.Contains(before.mapped, l) {
			problems = append(problems, account.AddMapping(l.here, l.there))
		}
	}
	return errors.Join(problems...)
}

// ErrUsersNeedRestart is the answer to the first user that is added, and to the last that is removed: with it
// everybody has to log in from then on, or nobody any more.
var ErrUsersNeedRestart = errors.New("the first user comes, and the last one goes, with a restart: with users everybody has to log in, without them nobody")

// SetUsers changes who may log in and what users may do; things are those that are configured now. Users that are the
// same notice nothing, and neither do those that may act for more Things, or for fewer because those are not configured
// any more. The connections of users that are gone, have another password or key, or other rights, are ended. With an
// error nothing has changed.
func (s *Server) SetUsers(users []User, things []mapping.Thing) error {
	if err := CheckUsers(users); err != nil {
		return err
	}
	switch {
	case s.logins == nil && len(users) == 0:
		return nil
	case s.logins == nil || len(users) == 0:
		return ErrUsersNeedRestart
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	c := changes{before: s.logins.all(), things: setOf(things), ended: map[string]bool{}, now: map[string]*server.Permissions{}}
	next, named := make([]*login, len(users)), map[string]bool{}
	for i, u := range users {
		named[u.Name] = true
		var err error
		if next[i], err = s.change(u, &c); err != nil {
			return fmt.Errorf("user %s: %w", u.Name, err)
		}
	}
	s.logins.set(next)
	for name, was := range c.before {
		c.ended[was.as.Account.Name] = c.ended[was.as.Account.Name] || !named[name]
	}
	s.dismiss(c.ended, c.now)
	s.running.Go(func() { s.strip(c.before) })
	return nil
}

// strip takes the imports from the accounts of users that are gone: the server has no way to forget an account. Nobody
// waits for it, as nobody can log in there.
func (s *Server) strip(before map[string]*login) {
	for name, was := range before {
		select {
		case <-s.stopping:
			return
		default:
		}
		s.changing.Lock()
		if s.logins.all()[name] == nil {
			s.link(was.as.Account, nil)
		}
		s.changing.Unlock()
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
func (s *Server) change(u User, c *changes) (*login, error) {
	was := c.before[u.Name]
	switch {
	case was == nil:
		account, err := s.account(u)
		if err != nil {
			return nil, err
		}
		return s.logins.make(u, account), nil
	case was.fits(u, c.things) && u.Same(was.user):
		return was, nil
	case was.fits(u, c.things):
		more := u
		more.Things = was.lacks(u)
		none := u
		none.Things = nil
		if err := s.widen(was.as.Account, none.grants(s.subjects), more.grants(s.subjects)); err != nil {
			return nil, err
		}
		next := s.logins.make(u, was.as.Account)
		next.given = slices.Concat(was.given, more.Things)
		c.now[was.as.Account.Name] = next.as.Permissions
		return next, nil
	case u.sameRights(was.user) && within(was.given, u.Things): // another password or key
		c.ended[was.as.Account.Name] = true
		return s.logins.make(u, was.as.Account), nil
	}
	c.ended[was.as.Account.Name] = true
	account, err := s.account(u)
	if err != nil {
		return nil, err
	}
	return s.logins.make(u, account), nil
}

// dismiss ends the connections of some accounts, and gives those of others their new permissions.
func (s *Server) dismiss(ended map[string]bool, wider map[string]*server.Permissions) {
	list, err := s.nats.Connz(&server.ConnzOptions{Username: true, Limit: 1 << 20})
	if err != nil {
		s.log.Error("the connections of users that changed can't be listed, they stay until they end by themselves", "error", err)
		return
	}
	for _, c := range list.Conns {
		permissions := wider[c.Account]
		switch {
		case ended[c.Account]:
			_ = s.nats.DisconnectClientByID(c.Cid) // or it has gone
		case permissions != nil:
			if client := s.nats.GetClient(c.Cid); client != nil {
				client.RegisterUser(&server.User{Permissions: permissions})
			}
		}
	}
}
