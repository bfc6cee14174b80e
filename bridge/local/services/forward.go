package services

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Of several bridges that share the Things any gets a request. One that has not the Thing hands the request on to the
// bridge that has it. That one answers who asked; to who handed it on it says only that it has taken it. So a request is
// taken once: it is handed on again only after somebody's word that it was not taken, or the server's that nobody is there.

// Peers are the bridges that share the Things.
type Peers interface {
	// Owner is the run of the bridge that has a Thing, and whether it is this one; empty: none that lives.
	Owner(t mapping.Thing) (run string, mine bool)
}

// headerAsker has the reply subject of who asked.
const headerAsker = "Fleets-Asker"

const (
	// forwardTime is how long a request looks for a bridge that takes it; a planned move takes less.
	forwardTime  = 3 * time.Second
	forwardPause = 50 * time.Millisecond
)

// notMine answers a request that was handed on to the wrong bridge.
var notMine = []byte("not mine")

// peerSpace is where a run of a bridge takes what others hand on.
func peerSpace(s mapping.Subjects, run string) string { return "_" + s.Prefix() + ".peer." + run + "." }

// asked is a request as a program made it.
type asked struct {
	subject, reply string
	header         nats.Header
	data           []byte
	who            string         // has the slot that it takes
	request        bridge.Request // what it says
}

// forward finds the bridge that has the Thing, and hands the request on. mine: it is this one by now.
func (s *Service) forward(a asked) (mine bool, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, forwardTime)
	defer cancel()
	for {
		run, mine := s.peers.Owner(a.request.Thing)
		if mine {
			return true, nil
		}
		if run != "" {
			m := nats.NewMsg(peerSpace(s.subjects, run) + a.subject)
			for k, v := range a.header {
				m.Header[k] = v
			}
			m.Header.Set(headerAsker, a.reply)
			m.Data = a.data
			answer, err := s.nc.RequestMsgWithContext(ctx, m)
			if err == nil && len(answer.Data) == 0 {
				return false, nil
			}
			if errors.Is(err, nats.ErrMaxPayload) {
				return false, badRequest("the request is larger than what can be handed on to the bridge that has thing %q", a.request.Thing)
			}
			if err != nil && !errors.Is(err, nats.ErrNoResponders) { // it may be taken, and who has it answers
				return false, nil
			}
		}
		select {
		case <-ctx.Done():
			return false, &bridge.RequestError{Code: bridge.StatusOffline, Message: fmt.Sprintf("no bridge has thing %q now, try again", a.request.Thing)}
		case <-time.After(forwardPause):
		}
	}
}

// handed takes what another bridge hands on.
func (s *Service) handed(m *nats.Msg) {
	a := asked{subject: m.Subject[len(peerSpace(s.subjects, s.run)):], reply: m.Header.Get(headerAsker), header: m.Header, data: m.Data}
	a.who = wire.ThingToken(a.subject, s.subjects.Space(mapping.SpaceReq))
	m.Header.Del(headerAsker)
	if !wire.Answerable(s.subjects, a.reply) {
		return
	}
	_, notShadow := s.subjects.ParseShadowGet(a.subject)
	err := s.parse(&a, notShadow == nil)
	if err == nil {
		if _, mine := s.peers.Owner(a.request.Thing); !mine {
			_ = m.Respond(notMine)
			return
		}
	}
	_ = m.Respond(nil)
	if err != nil { // who handed it on could read it
		s.respond(a.reply, bridge.Response{}, err)
		return
	}
	s.take(a)
}
