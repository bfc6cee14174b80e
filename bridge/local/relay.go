package local

import (
	"fmt"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"fleetbridge/mapping"
)

// takeIn begins to store what programs publish.
func (s *Store) takeIn() error {
	for _, class := range mapping.Classes {
		if h := s.handovers[class]; h != nil {
			s.intakes[class], s.forgetters[class] = s.newIntake(class), newForgetter(s.up[class], h, s.cfg.working)
		} else {
			in, err := s.newRelay(class)
			if err != nil {
				return err
			}
			s.intakes[class] = in
		}
		if err := s.intakes[class].listen(classSubjects(s.cfg.Subjects, s.cfg.Things, class)); err != nil {
			return err
		}
	}
	return nil
}

// newRelay is an intake for a stream that is not synced at each write, where groups gain nothing: what comes
// goes on at once, each message by itself, and its publisher gets the stream's own answer. Nothing comes
// before listen.
func (s *Store) newRelay(c mapping.Class) (*intake, error) {
	i := &intake{nc: s.cfg.Intake, stream: s.up[c].CachedInfo().Config.Name, working: s.cfg.working, log: s.log,
		subs: map[string]*nats.Subscription{}, in: make(chan *nats.Msg, intakeMessages), ended: make(chan struct{})}
	// The server lets nobody else use the reply subject of a user's message, so an answer comes here, under a
	// subject that ends in the one where it is to go.
	answers := answerSpace(s.cfg.Subjects) + nuid.Next() + "."
	_, err := i.nc.Subscribe(answers+">", func(m *nats.Msg) {
		if m.Header.Get("Status") != "" { // nobody was there
			m.Data = []byte(answerFailed)
		}
		i.answer(m.Subject[len(answers):], m.Data)
	})
	if err != nil {
		return nil, fmt.Errorf("subscribing to the answers of stream %s: %w", i.stream, err)
	}
	i.work.Go(func() { i.relay(answers) })
	return i, nil
}

func answerSpace(s mapping.Subjects) string { return "_" + s.Prefix() + ".ack." }

// relay takes from each message what is not for the stream that all Things share, and passes it on.
func (i *intake) relay(answers string) {
	for {
		select {
		case <-i.ended:
			return
		case m := <-i.in:
			if len(m.Subject) > longestSubject {
				i.answer(m.Reply, []byte(answerTooLong))
			} else if err := i.pass(m, answers); err != nil {
				i.log.Debug("what a program published can't be stored", "error", err)
				i.answer(m.Reply, []byte(answerFailed))
			}
		}
	}
}

func (i *intake) pass(m *nats.Msg, answers string) error {
	if err := i.working().Err(); err != nil { // nobody would answer
		return err
	}
	out := &nats.Msg{Subject: internal(m.Subject), Data: m.Data}
	if m.Reply != "" {
		out.Reply = answers + m.Reply
	}
	if n := len(out.Subject) + len(out.Reply); n > server.MAX_CONTROL_LINE_SIZE-64 { // a verb and lengths
		return fmt.Errorf("its subjects have %d bytes", n)
	}
	admit(m)
	out.Header = m.Header
	return i.nc.PublishMsg(out)
}
