package fleetsim

import (
	"errors"
	"net/http"
	"time"
)

// What administrators of a broker call: kick and ban as EMQX's own API has them, and a restart.

var errForeignBroker = &Refusal{Status: http.StatusConflict, Message: "the broker is not the simulator's own"}

func (s *Sim) deleteClient(c call) (int, any, error) {
	if s.broker == nil {
		return 0, nil, errForeignBroker
	}
	if err := s.broker.Kick(c.PathValue("client")); errors.Is(err, ErrNotConnected) {
		return 0, nil, notFound("client %q has no session", c.PathValue("client"))
	}
	s.log.Info("kicked", "client", c.PathValue("client"))
	return http.StatusOK, struct{}{}, nil
}

// forever is how long a ban is without an end.
const forever = 100 * 365 * 24 * time.Hour

func (s *Sim) postBanned(c call) (int, any, error) {
	if s.broker == nil {
		return 0, nil, errForeignBroker
	}
	if as := c.text("as"); as != "clientid" {
		return 0, nil, invalid("as %q: only clientid can be banned here", as)
	}
	d := forever
	if v := member(c.doc, "until"); v.Exists() {
		until, err := time.Parse(time.RFC3339, v.String())
		if err != nil {
			return 0, nil, invalid("until %s is no RFC 3339 time", v.Raw)
		}
		d = time.Until(until)
	}
	s.broker.Ban(c.text("who"), d)
	s.log.Info("banned", "client", c.text("who"))
	return http.StatusOK, struct{}{}, nil
}

func (s *Sim) deleteBanned(c call) (int, any, error) {
	if s.broker == nil {
		return 0, nil, errForeignBroker
	}
	s.broker.Ban(c.PathValue("client"), 0)
	s.log.Info("no longer banned", "client", c.PathValue("client"))
	return http.StatusOK, struct{}{}, nil
}

func (s *Sim) postRestart(call) (int, any, error) {
	if s.broker == nil {
		return 0, nil, errForeignBroker
	}
	s.broker.Restart()
	s.log.Info("broker restarted", "sessions", map[bool]string{true: "kept", false: "gone"}[s.broker.like.KeepSessions])
	return http.StatusOK, struct{}{}, nil
}
