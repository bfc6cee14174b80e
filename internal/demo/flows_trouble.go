package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// Flows of what goes wrong, and the count at the end.

func (s *stage) badPayload(ctx context.Context) error {
	const tail, bad, good = "events.dampness", `{"eventType":"dampness","severity":"warning"}`, `{"eventType":"dry","severity":"info"}`
	before, err := s.held(ctx)
	if err != nil {
		return err
	}
	answer, code, err := s.request(ctx, hygrometerName, tail, bad)
	if err != nil {
		return err
	}
	if err := expect("the answer to the request", "error 400 at /severity", fmt.Sprintf("error %s at %s", code, gjson.GetBytes(answer.Data, "details.0.pointer"))); err != nil {
		return err
	}
	after, err := s.held(ctx)
	if err != nil {
		return err
	}
	if err := expect("what was ever stored", before, after); err != nil {
		return err
	}
	s.tick(ctx, "asked on req, the bridge refuses it with 400 and the place of the fault, /severity; it stores nothing")
	if _, err := s.publish(ctx, hygrometerName, tail, bad); err != nil {
		return err
	}
	if _, err := s.publish(ctx, hygrometerName, "events.dry", good); err != nil {
		return err
	}
	letter, err := s.letter(ctx, "fleets.dead.up."+Thing+"."+tail)
	if err != nil {
		return err
	}
	if err := expect("the dead letter's code", "schema", letter.Header.Get("Fleets-Error-Code")); err != nil {
		return err
	}
	if err := expect("the pointer in its error", true, strings.Contains(letter.Header.Get("Fleets-Error"), "/severity")); err != nil {
		return err
	}
	if err := s.arrives(ctx, "events/dry", nil); err != nil {
		return err
	}
	for _, e := range s.sim.Events(Thing) {
		if e.Type == "dampness" {
			return expect("the bad event in the cloud", "none", e.Type)
		}
	}
	s.tick(ctx, "published on up, it is dead letter %d, which says why; the good message behind it went on", letter.Sequence)
	return nil
}

// ticks is how many events are published while the link is cut.
const ticks = 3

func (s *stage) linkLost(ctx context.Context) error {
	// What is not acknowledged when the link breaks is sent again: at least once, not exactly once.
	if err := s.quiet(ctx); err != nil {
		return err
	}
	events, asked := len(s.sim.Events(Thing)), 0
	for _, p := range s.sim.Received() {
		if strings.HasSuffix(p.Topic, "/jobs/get") {
			asked++
		}
	}
	s.link.Cut()
	defer s.link.Restore()
	if _, err := s.status(ctx, "not connected", func(v bridge.Status) bool { return !v.Connected }); err != nil {
		return err
	}
	for n := range ticks {
		payload := fmt.Sprintf(`{"eventType":"tick","severity":"info","data":{"n":%d}}`, n+1)
		if _, err := s.publish(ctx, hygrometerName, "events.tick", payload); err != nil {
			return err
		}
	}
	queued, err := s.queued(ctx)
	if err != nil {
		return err
	}
	if err := expect("messages in the queue", ticks, queued); err != nil {
		return err
	}
	code, err := s.readyz(ctx)
	if err != nil {
		return err
	}
	if err := expect("/readyz", 503, code); err != nil {
		return err
	}
	s.showStored(ctx)
	s.account.tick(fmt.Sprintf("not connected, says the status; /readyz says 503; %d messages accepted and stored", ticks))
	return s.linkBack(ctx, events, asked)
}

// linkBack restores the link; events and asked are how many events and questions for jobs the cloud had
// before.
func (s *stage) linkBack(ctx context.Context, events, asked int) error {
	restored := time.Now().Add(ticks * time.Millisecond) // events of one millisecond get one each
	s.link.Restore()
	list, err := s.sim.WaitEvents(ctx, Thing, events+ticks)
	if err != nil {
		return missing("events in the cloud after the outage", fmt.Sprint(ticks), len(s.sim.Events(Thing))-events)
	}
	var order []string
	for _, e := range list[events:] {
		order = append(order, gjson.GetBytes(e.Data, "n").Raw)
		if at := time.UnixMilli(e.Timestamp); at.After(restored) {
			return expect("the time of event "+order[len(order)-1], "before the link was back, "+restored.Format(clock), at.Format(clock))
		}
	}
	if err := expect("their order in the cloud", "1 2 3", strings.Join(order, " ")); err != nil {
		return err
	}
	if _, err := s.status(ctx, "connected, subscribed, shadow known", ready); err != nil {
		return err
	}
	if err := s.arrives(ctx, "jobs/get", nth(asked+1)); err != nil {
		return err
	}
	s.tick(ctx, "connected again: %d of %d arrived, in order, with the times at which they were published", len(order), ticks)
	return nil
}

// left compares the metrics with what really passed: the broker's record upwards, the simulator's
// downwards.
func (s *stage) left(ctx context.Context) error {
	if err := s.quiet(ctx); err != nil {
		return err
	}
	var published, questions, sent int
	var up, down outcomes
	var err error
	counted := func() bool { // what the metrics count last may be on its way
		published, questions, sent = s.passed()
		up, down, err = s.outcomes(ctx)
		return err == nil && up.delivered == published && down.sum() == sent
	}
	soon, cancel := context.WithTimeout(ctx, s.patience/2)
	defer cancel()
	s.poll(soon, counted) // whether it came true is checked below, number by number
	if err != nil {
		return err
	}
	dead, err := s.deadLetters(ctx)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		what      string
		want, got int
	}{
		{"upwards delivered, against the broker's record", published, up.delivered},
		{"downwards in all, against what the cloud sent", sent, down.sum()},
		{"duplicates, against what the cloud sent twice", s.repeated, up.duplicate + down.duplicate},
		{"dead, against the letters in FLEETS_DEAD", dead, up.dead + down.dead},
		{"what devices did wrong, as the cloud sees it", 0, len(s.sim.Violations())},
	} {
		if err := expect(c.what, c.want, c.got); err != nil {
			return err
		}
	}
	s.account.counts(up, down, questions)
	s.tick(ctx, "the broker's record and the dead letters say the same; the queue is empty")
	return nil
}

// passed counts what the broker took from the bridge, questions to the cloud apart, and what the cloud
// sent.
func (s *stage) passed() (published, questions, sent int) {
	for _, p := range s.sim.Received() {
		if a, err := mapping.ParseTopic(mapping.Up, p.Topic); err == nil && a.Route().Accepted != "" {
			questions++
		} else {
			published++
		}
	}
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	return published, questions, s.journal.sent
}

// outcomes are how the messages of one direction ended.
type outcomes struct{ delivered, duplicate, dead int }

func (o outcomes) sum() int { return o.delivered + o.duplicate + o.dead }

// outcomes reads them from the metrics.
func (s *stage) outcomes(ctx context.Context) (up, down outcomes, err error) {
	for direction, o := range map[string]*outcomes{"up": &up, "down": &down} {
		for outcome, into := range map[string]*int{"delivered": &o.delivered, "duplicate": &o.duplicate, "dead": &o.dead} {
			if *into, err = s.metric(ctx, "fleetbridge_messages_total", `direction="`+direction+`"`, `outcome="`+outcome+`"`); err != nil {
				return up, down, err
			}
		}
	}
	return up, down, nil
}

// quiet waits until the queue is empty.
func (s *stage) quiet(ctx context.Context) error {
	var last any
	empty := func() bool {
		n, err := s.queued(ctx)
		if last = n; err != nil {
			last = err
		}
		return err == nil && n == 0
	}
	if !s.poll(ctx, empty) {
		return missing("messages in the queue", "0", last)
	}
	return nil
}

// queued counts the messages that wait for the broker.
func (s *stage) queued(ctx context.Context) (int, error) {
	return s.metric(ctx, "fleetbridge_queued_messages")
}

// held tells how many messages were ever stored for the cloud, and how many dead letters.
func (s *stage) held(ctx context.Context) (string, error) {
	accepted, err := s.metric(ctx, "fleetbridge_accepted_messages_total")
	if err != nil {
		return "", err
	}
	dead, err := s.deadLetters(ctx)
	return fmt.Sprintf("%d for the cloud, %d dead letters", accepted, dead), err
}

// deadLetters counts what the stream FLEETS_DEAD holds.
func (s *stage) deadLetters(ctx context.Context) (int, error) {
	stream, err := s.js.Stream(ctx, "FLEETS_DEAD")
	if err != nil {
		return 0, err
	}
	return int(stream.CachedInfo().State.Msgs), nil
}
