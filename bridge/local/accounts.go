package local

import (
	"fmt"

	"github.com/nats-io/nats-server/v2/server"

	"fleetbridge/mapping"
)

// linkAccounts opens the bridge's account, which is the global one so that a store keeps what it holds
// when the first user is added, to the users' accounts.
func linkAccounts(s *server.Server, users []User, subjects mapping.Subjects) error {
	bridge := s.GlobalAccount()
	accounts := make([]*server.Account, len(users))
	for i, u := range users {
		account, err := s.LookupAccount(u.account())
		if err != nil {
			return fmt.Errorf("account of user %s: %w", u.Name, err)
		}
		accounts[i] = account
	}
	if err := exportAll(bridge, accounts, subjects); err != nil {
		return err
	}
	for i, u := range users {
		g := u.grants(subjects)
		for _, l := range g.services {
			if err := accounts[i].AddServiceImport(bridge, l.here, l.there); err != nil {
				return fmt.Errorf("user %s: %s: %w", u.Name, l.here, err)
			}
		}
		for _, l := range g.streams {
			if err := accounts[i].AddMappedStreamImport(bridge, l.there, l.here); err != nil {
				return fmt.Errorf("user %s: %s: %w", u.Name, l.here, err)
			}
		}
	}
	return nil
}

func exportAll(bridge *server.Account, to []*server.Account, subjects mapping.Subjects) error {
	for _, e := range serviceExports(subjects) {
		answers := server.Singleton
		if e.many {
			answers = server.Streamed
		}
		err := bridge.AddServiceExportWithResponse(e.subject, answers, to)
		if err == nil && e.wait > 0 {
			err = bridge.SetServiceExportResponseThreshold(e.subject, e.wait)
		}
		if err != nil {
			return fmt.Errorf("export %s: %w", e.subject, err)
		}
	}
	for _, subject := range streamExports(subjects) {
		if err := bridge.AddStreamExport(subject, to); err != nil {
			return fmt.Errorf("export %s: %w", subject, err)
		}
	}
	return nil
}
