package fleetsim

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"fleetbridge/mapping"
)

// Violation is something that a device must not send, by the protocol page.
type Violation struct {
	Publish Publish
	Reason  string
}

// Violations lists what devices did wrong so far; each is also logged at warn. Refusals that the
// cloud answers, such as a bad job update, are not among them.
func (s *Sim) Violations() []Violation {
	s.Lock()
	defer s.Unlock()
	return slices.Clone(s.violations)
}

const maxViolations = 1000

func (s *Sim) violation(p Publish, reason string) {
	if len(s.violations) < maxViolations {
		s.violations = append(s.violations, Violation{p, reason})
	}
	s.log.Warn("protocol violation", "topic", p.Topic, "client", p.ClientID, "reason", reason)
	s.notify()
}

// upward takes what a client published.
func (s *Sim) upward(p Publish) {
	s.Lock()
	defer s.Unlock()
	if s.closed {
		return
	}
	s.received.add(p)
	s.log.Debug("received", "topic", p.Topic, "payload", string(p.Payload))
	if !strings.HasPrefix(p.Topic, "$emqx/") {
		return // not the cloud's business
	}
	a, err := mapping.ParseTopic(mapping.Up, p.Topic)
	if err != nil {
		s.violation(p, err.Error())
		return
	}
	if p.QoS != 1 {
		s.violation(p, "QoS is not 1")
	}
	if p.Retain {
		s.violation(p, "retain is set")
	}
	if a.Route().Accepted != "" {
		s.question(a, p.Payload)
		return
	}
	var refusal *Refusal
	switch err := s.statement(a, p); {
	case err == nil:
	case errors.As(err, &refusal) && (refusal.Status == http.StatusNotFound || refusal.Status == http.StatusConflict):
		s.log.Info("ignored", "topic", p.Topic, "reason", refusal.Message) // as the real cloud does, unseen
	default:
		s.violation(p, err.Error())
	}
}

// statement takes what has no answer.
func (s *Sim) statement(a mapping.Address, p Publish) error {
	doc, err := parseObject(p.Payload)
	if err != nil {
		return invalid("payload %v", err)
	}
	switch a.Channel {
	case mapping.ShadowReport:
		_, err = s.report(string(a.Thing), doc)
	case mapping.Event:
		err = s.event(string(a.Thing), a.ID, doc)
	case mapping.CommandResponse:
		for _, name := range []string{"thingName", "executionId"} {
			if member(doc, name).Exists() {
				return invalid("%s does not belong into a response", name)
			}
		}
		err = s.respond(string(a.Thing), a.ID, doc, p.Dup)
	}
	return err
}

// question answers on the accepted or the rejected topic. Notifications of what it changed follow
// the answer, as the real cloud's come from a worker of their own.
func (s *Sim) question(a mapping.Address, payload []byte) {
	s.answering = true
	answer, token, refusal := s.ask(a, payload)
	s.answering = false
	reply, body := a, any(answer)
	reply.Channel = a.Route().Accepted
	if refusal != nil {
		reply.Channel = a.Route().Rejected
		body = jobRejection{refusal.Code, refusal.Message, refusal.State, token, time.Now().UnixMilli()}
		s.log.Info("rejected", "thing", a.Thing, "question", a.Channel, "code", refusal.Code)
	} else {
		s.log.Info("answered", "thing", a.Thing, "question", a.Channel)
	}
	s.send(outgoing{topic: reply.Topic(), payload: encode(body), answer: true})
	for _, m := range s.behind {
		s.send(m)
	}
	s.behind = nil
}
