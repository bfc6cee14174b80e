package embedded

import (
	"errors"

	"fleetbridge/bridge/local/access"
	"fleetbridge/mapping"
)

// ErrUsersNeedRestart is the answer to the first user that is added, and to the last that is removed: with it
// everybody has to log in from then on, or nobody any more.
var ErrUsersNeedRestart = errors.New("the first user comes, and the last one goes, with a restart: with users everybody has to log in, without them nobody")

// SetUsers changes who may log in and what users may do; see access.Logins.SetUsers. With an error nothing has changed.
func (s *Server) SetUsers(users []access.User, things []mapping.Thing) error {
	if err := access.CheckUsers(users); err != nil {
		return err
	}
	switch {
	case s.logins == nil && len(users) == 0:
		return nil
	case s.logins == nil || len(users) == 0:
		return ErrUsersNeedRestart
	}
	return s.logins.SetUsers(users, things)
}
