package conform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

// check is one thing that a program must do.
type check struct {
	name, must string
	needs      func(Device) json.RawMessage // what the device must have for it; nil: nothing
	starts     bool                         // it starts or stops the program
	do         func(*run, context.Context) error
}

// checks are all, in their order: each begins where the one before ended.
var checks = []check{
	{name: "connect", must: "connects, and is subscribed to deltas or desired states, commands and answers about jobs", do: (*run).connects},
	{name: "report", must: "reports its state", do: (*run).reports},
	{name: "delta", must: "applies a delta, and reports it", do: (*run).followsDesired},
	{name: "follow", must: "follows the next desired state, too", do: (*run).followsDesired},
	{name: "stale delta", must: "ignores a delta of an old version", do: (*run).ignoresStale},
	{name: "command", must: "answers a command in time, once, and does it", do: (*run).obeys},
	{name: "event", must: "sends its event", needs: func(d Device) json.RawMessage { return text(d.Event) }, do: (*run).sendsEvent},
	{name: "command twice", must: "runs a command once that is delivered three times", do: (*run).runsOnce},
	{name: "late command", must: "does not run a command whose time was over when it came", do: (*run).ignoresLate},
	{name: "bad command", must: "refuses params that are no good, and says why", needs: func(d Device) json.RawMessage {
		if len(d.Command.Bad) == 0 {
			return nil
		}
		return d.Command.Bad[0]
	}, do: (*run).refusesBad},
	{name: "unknown", must: "refuses an action that it does not know", do: (*run).refusesUnknown},
	{name: "odd messages", must: "lives through messages that make no sense", do: (*run).survivesOdd},
	{name: "job", must: "does a job: IN_PROGRESS, then SUCCEEDED", needs: func(d Device) json.RawMessage { return d.Job }, do: (*run).doesJob},
	{name: "bad job", must: "ends a job that it can't do FAILED or REJECTED", needs: func(d Device) json.RawMessage { return d.BadJob }, do: (*run).failsJob},
	{name: "reboot", must: "ends a job that a power cut interrupted, and does what was asked for meanwhile", needs: func(d Device) json.RawMessage { return d.LongJob }, starts: true, do: (*run).reboots},
	{name: "lost link", must: "goes on after the link was lost: desired state, command and job of meanwhile", do: (*run).survivesOutage},
	{name: "record", must: "has sent nothing that the protocol forbids", do: (*run).isClean},
	{name: "stop", must: "ends with exit code 0 on SIGTERM, and leaves no process behind", starts: true, do: (*run).stops},
	{name: "early start", must: "waits for a server that is not there yet, and ends on SIGINT when it is gone again", starts: true, do: (*run).startsEarly},
}

func text(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	return json.RawMessage(s)
}

// topic is one of the Thing's.
func (r *run) topic(c mapping.Channel, id string) string {
	return mapping.Address{Thing: mapping.Thing(r.Thing), Channel: c, ID: id}.Topic()
}

// until looks, and gives up when the program has ended.
func (r *run) until(ctx context.Context, look func() error) error {
	return until(ctx, r.Patience, func() error {
		err := look()
		if err != nil && r.program != nil {
			if ended := r.program.running(); ended != nil {
				return &lost{fmt.Errorf("%w; %w", err, ended)}
			}
		}
		return err
	})
}

func (r *run) connects(ctx context.Context) error {
	// What nobody serves takes as long as a bridge waits for a handler; it is looked at later.
	defer func() {
		r.unknown, _ = r.sim.SendCommand(fleetsim.Command{Thing: r.Thing, Action: "conform-unknown", TTL: 2 * r.Patience})
	}()
	return r.until(ctx, func() error {
		b := r.sim.Broker()
		if !b.Connected(r.Thing) {
			return fmt.Errorf("no client with the id %q is connected", r.Thing)
		}
		if !b.Hears(r.topic(mapping.ShadowDelta, "")) && !b.Hears(r.topic(mapping.ShadowDesired, "")) {
			return fmt.Errorf("nobody is subscribed to %s", r.topic(mapping.ShadowDelta, ""))
		}
		for _, topic := range []string{r.topic(mapping.CommandRequest, "x"), r.topic(mapping.JobsStartNext, "") + "/accepted"} {
			if strings.Contains(topic, "/jobs/") && r.Device.Job == nil && r.Device.LongJob == nil {
				continue
			}
			if !b.Hears(topic) {
				return fmt.Errorf("nobody is subscribed to %s", topic)
			}
		}
		return nil
	})
}

func (r *run) reports(ctx context.Context) error {
	return r.until(ctx, func() error {
		s, err := r.sim.Shadow(r.Thing)
		if err == nil && len(gjson.ParseBytes(s.Reported).Map()) == 0 {
			err = errors.New("nothing is reported")
		}
		return err
	})
}

// next sets the next of the device's desired states.
func (r *run) next() (json.RawMessage, error) {
	patch := r.Device.Desired[r.desired%len(r.Device.Desired)]
	r.desired++
	_, err := r.sim.PatchDesired(r.Thing, patch)
	return patch, err
}

// reported waits until all of a state is reported.
func (r *run) reported(ctx context.Context, want json.RawMessage) error {
	return r.until(ctx, func() error {
		s, err := r.sim.Shadow(r.Thing)
		if err == nil && !holds(s.Reported, want) {
			err = fmt.Errorf("want %s reported; reported is %s", want, orNothing(s.Reported))
		}
		return err
	})
}

// holds reports whether a state has all of another.
func holds(state, want []byte) bool { return string(fleetsim.Delta(want, state)) == "{}" }

func orNothing(state []byte) string {
	if len(state) == 0 {
		return "nothing"
	}
	return string(state)
}

func (r *run) followsDesired(ctx context.Context) error {
	want, err := r.next()
	if err != nil {
		return err
	}
	return r.reported(ctx, want)
}

// ignoresStale sends a delta again whose state is desired no more.
func (r *run) ignoresStale(ctx context.Context) error {
	old := r.Device.Desired[(r.desired+len(r.Device.Desired)-2)%len(r.Device.Desired)]
	s, err := r.sim.Shadow(r.Thing)
	if err != nil {
		return err
	}
	mark := len(r.sim.Received())
	stale := fmt.Sprintf(`{"version":1,"timestamp":%d,"state":%s,"metadata":{}}`, time.Now().Add(-time.Hour).Unix(), old)
	if err := r.sim.Publish(r.topic(mapping.ShadowDelta, ""), []byte(stale), fleetsim.PublishOptions{}); err != nil {
		return err
	}
	if err := rest(ctx, r.Settle); err != nil {
		return err
	}
	for _, p := range r.sim.Received()[mark:] {
		state := gjson.GetBytes(p.Payload, "state.reported").Raw
		if p.Topic == r.topic(mapping.ShadowReport, "") && state != "" && holds([]byte(state), old) {
			return fmt.Errorf("it reported %s after a delta of version 1 with that; version %d was there before", old, s.Version)
		}
	}
	return nil
}

// command sends the device's command with these params.
func (r *run) command(params json.RawMessage) (string, error) {
	return r.sim.SendCommand(fleetsim.Command{Thing: r.Thing, Action: r.Device.Command.Action, Params: params, TTL: 2 * r.Patience})
}

// ends waits for the end of a command.
func (r *run) ends(ctx context.Context, id string) (e fleetsim.CommandExecution, err error) {
	err = r.until(ctx, func() error {
		if e, err = r.sim.Command(id); err == nil && !e.Final() {
			err = errors.New("the command has no response")
		}
		return err
	})
	return e, err
}

// succeeds waits for the good end of a command.
func (r *run) succeeds(ctx context.Context, id string) error {
	e, err := r.ends(ctx, id)
	switch {
	case err != nil:
		return err
	case e.Status != fleetsim.Succeeded:
		return fmt.Errorf("the command ended %s with the result %s", e.Status, orNothing(e.Result))
	case len(e.Responses) != 1:
		return fmt.Errorf("the command has %d responses: %s", len(e.Responses), e.Responses)
	}
	return nil
}

func (r *run) obeys(ctx context.Context) error {
	id, err := r.command(r.Device.Command.Params)
	if err != nil {
		return err
	}
	if err := r.succeeds(ctx, id); err != nil || r.Device.Command.Reported == nil {
		return err
	}
	return r.reported(ctx, r.Device.Command.Reported)
}

func (r *run) sendsEvent(ctx context.Context) error {
	return r.until(ctx, func() error {
		var types []string
		for _, e := range r.sim.Events(r.Thing) {
			if e.Type == r.Device.Event {
				if away := time.Since(time.UnixMilli(e.Timestamp)); away.Abs() > time.Hour {
					return &lost{fmt.Errorf("the timestamp %d of the event is %v away: it is Unix milliseconds", e.Timestamp, away.Round(time.Second))}
				}
				return nil
			}
			types = append(types, e.Type)
		}
		return fmt.Errorf("no event %q has come; events of other types: %q", r.Device.Event, types)
	})
}

func (r *run) runsOnce(ctx context.Context) error {
	id, err := r.command(r.Device.Command.Params)
	if err != nil {
		return err
	}
	if err := r.sim.RepeatCommand(id); err != nil {
		return err
	}
	if err := r.succeeds(ctx, id); err != nil {
		return err
	}
	if err := r.sim.RepeatCommand(id); err != nil {
		return err
	}
	if err := rest(ctx, r.Settle); err != nil {
		return err
	}
	return r.succeeds(ctx, id)
}

func (r *run) ignoresLate(ctx context.Context) error {
	c := fleetsim.Command{Thing: r.Thing, Action: r.Device.Command.Action, Params: r.Device.Command.Params, TTL: 10 * time.Second, Issued: time.Now().Add(-time.Hour)}
	id, err := r.sim.SendCommand(c)
	if err != nil {
		return err
	}
	if err := rest(ctx, r.Settle); err != nil {
		return err
	}
	e, err := r.sim.Command(id)
	if err == nil && e.Status == fleetsim.Succeeded {
		err = errors.New("a command that was issued an hour ago, with a ttl of 10 s, SUCCEEDED")
	}
	return err
}

func (r *run) refusesBad(ctx context.Context) error {
	for _, params := range r.Device.Command.Bad {
		id, err := r.command(params)
		if err != nil {
			return err
		}
		e, err := r.ends(ctx, id)
		switch {
		case err != nil:
			return fmt.Errorf("params %s: %w", params, err)
		case e.Status != fleetsim.Failed && e.Status != fleetsim.Rejected:
			return fmt.Errorf("with the params %s the command ended %s", params, e.Status)
		case gjson.GetBytes(e.Result, "error").String() == "":
			return fmt.Errorf("with the params %s the command ended %s, and the result has no error that says why: %s", params, e.Status, orNothing(e.Result))
		}
	}
	return nil
}

func (r *run) refusesUnknown(ctx context.Context) error {
	if r.unknown == "" {
		return errors.New("the command could not be sent")
	}
	e, err := r.ends(ctx, r.unknown)
	if err == nil && e.Status != fleetsim.Failed && e.Status != fleetsim.Rejected {
		err = fmt.Errorf("the action conform-unknown ended %s", e.Status)
	}
	return err
}
