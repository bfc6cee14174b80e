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

// stopPatience is how long a program may take to end.
const stopPatience = 10 * time.Second

// survivesOdd sends what no cloud should, and sees that the program still works.
func (r *run) survivesOdd(ctx context.Context) error {
	deep := strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200)
	now, err := r.sim.Shadow(r.Thing)
	if err != nil {
		return err
	}
	for _, m := range []struct {
		channel mapping.Channel
		id      string
		payload string
	}{
		{mapping.ShadowDelta, "", "not JSON"},
		{mapping.ShadowDelta, "", ""},
		{mapping.ShadowDelta, "", `[]`},
		{mapping.ShadowDelta, "", `{"state":null,"version":"x"}`},
		{mapping.ShadowDelta, "", fmt.Sprintf(`{"version":%d,"state":{"conform-no-such-property":%s}}`, now.Version, deep)},
		{mapping.ShadowDesired, "", `{"state":{"desired":7}}`},
		{mapping.CommandRequest, "odd-1", "not JSON"},
		{mapping.CommandRequest, "odd-2", `{}`},
		{mapping.CommandRequest, "odd-3", `{"action":7,"params":[]}`},
		{mapping.JobsNotify, "", "not JSON"},
		{mapping.JobsNotifyNext, "", `{"execution":7}`},
		{mapping.JobUpdateAccepted, "no-such-job", `{"clientToken":"of another client"}`},
	} {
		if err := r.sim.Publish(r.topic(m.channel, m.id), []byte(m.payload), fleetsim.PublishOptions{}); err != nil {
			return err
		}
	}
	if err := r.obeys(ctx); err != nil {
		return fmt.Errorf("behind messages that make no sense: %w", err)
	}
	return nil
}

// create queues a job, with a name that has to be escaped.
func (r *run) create(name string, document json.RawMessage) (string, error) {
	j, err := r.sim.CreateJob(fleetsim.Job{ID: "conform " + name + ".é", Things: []string{r.Thing}, Document: document})
	return j.ID, err
}

// execution waits until a job's execution is as it should be.
func (r *run) execution(ctx context.Context, id string, right func(fleetsim.JobExecution) error) error {
	return r.until(ctx, func() error {
		all, err := r.sim.Executions(id)
		if err != nil || len(all) != 1 {
			return &lost{fmt.Errorf("job %q has %d executions: %w", id, len(all), err)}
		}
		return right(all[0])
	})
}

// finishes waits for a job's good end.
func (r *run) finishes(ctx context.Context, id string) error {
	return r.execution(ctx, id, func(e fleetsim.JobExecution) error {
		switch {
		case !e.Final():
			return fmt.Errorf("job %q is %s, version %d", id, e.Status, e.VersionNumber)
		case e.Status != fleetsim.Succeeded:
			return &lost{fmt.Errorf("job %q ended %s %s", id, e.Status, e.StatusDetails)}
		case e.StartedAt == 0:
			return &lost{fmt.Errorf("job %q was never IN_PROGRESS", id)}
		}
		return nil
	})
}

func (r *run) doesJob(ctx context.Context) error {
	id, err := r.create("job", r.Device.Job)
	if err != nil {
		return err
	}
	return r.finishes(ctx, id)
}

func (r *run) failsJob(ctx context.Context) error {
	id, err := r.create("bad job", r.Device.BadJob)
	if err != nil {
		return err
	}
	return r.execution(ctx, id, func(e fleetsim.JobExecution) error {
		switch e.Status {
		case fleetsim.Failed, fleetsim.Rejected:
			return nil
		case fleetsim.Succeeded:
			return &lost{fmt.Errorf("a job that can't be done ended %s", e.Status)}
		}
		return fmt.Errorf("job %q is %s", id, e.Status)
	})
}

// reboots kills the program in the middle of a job.
func (r *run) reboots(ctx context.Context) error {
	long, err := r.create("long job", r.Device.LongJob)
	if err != nil {
		return err
	}
	doing := func(e fleetsim.JobExecution) error {
		switch {
		case e.Final():
			return &lost{fmt.Errorf("longJob ended %s before the program could be killed: give it one that takes seconds", e.Status)}
		case e.Status != fleetsim.InProgress:
			return errors.New("the job has not begun")
		}
		return nil
	}
	if err := r.execution(ctx, long, doing); err != nil {
		return err
	}
	if err := rest(ctx, r.Settle); err != nil { // so that it knows of the job
		return err
	}
	r.program.kill()
	if err := r.execution(ctx, long, doing); err != nil {
		return err
	}
	want, err := r.next()
	if err != nil {
		return err
	}
	second := ""
	if r.Device.Job != nil {
		if second, err = r.create("job behind the long one", r.Device.Job); err != nil {
			return err
		}
	}
	if err := r.sim.WaitSent(ctx); err != nil { // else the program may be on again when it comes
		return err
	}
	if err := r.startProgram(); err != nil {
		return err
	}
	if err := r.reported(ctx, want); err != nil {
		return fmt.Errorf("desired while it was off: %w", err)
	}
	for _, id := range []string{long, second} {
		if id == "" {
			continue
		}
		if err := r.finishes(ctx, id); err != nil {
			return err
		}
	}
	return r.obeys(ctx)
}

// survivesOutage cuts the link, or kills the bridge.
func (r *run) survivesOutage(ctx context.Context) error {
	r.cut()
	if r.NATS == "" {
		if err := r.sim.Broker().WaitConnected(ctx, r.Thing, false); err != nil {
			return err
		}
	}
	want, err := r.next()
	if err != nil {
		return err
	}
	id, err := r.harmless()
	if err != nil {
		return err
	}
	job := ""
	if r.Device.Job != nil {
		if job, err = r.create("job of the outage", r.Device.Job); err != nil {
			return err
		}
	}
	if err := rest(ctx, r.Outage); err != nil {
		return err
	}
	if err := r.restore(ctx); err != nil {
		return err
	}
	e, err := r.ends(ctx, id)
	switch {
	case err != nil:
		return fmt.Errorf("a command of meanwhile: %w", err)
	case gjson.GetBytes(e.Result, "error").String() == noSubscribers:
		return errors.New("its session was gone when the link was lost: connect with a Session Expiry Interval")
	case e.Status == fleetsim.TimedOut:
		return errors.New("a command of meanwhile was answered too late, or not at all")
	}
	if err := r.reported(ctx, want); err != nil {
		return fmt.Errorf("desired while the link was lost: %w", err)
	}
	if job != "" {
		if err := r.finishes(ctx, job); err != nil {
			return err
		}
	}
	return r.obeys(ctx)
}

// noSubscribers is the simulator's error for a command that no session takes.
const noSubscribers = "no matching subscribers"

// harmless sends a command that changes nothing: it can't be carried out.
func (r *run) harmless() (string, error) {
	if bad := r.Device.Command.Bad; len(bad) > 0 {
		return r.command(bad[0])
	}
	return r.sim.SendCommand(fleetsim.Command{Thing: r.Thing, Action: "conform-unknown", TTL: 2 * r.Patience})
}

// isClean looks for what the cloud, or the bridge, has refused.
func (r *run) isClean(ctx context.Context) error {
	var wrong []error
	for _, v := range r.sim.Violations() {
		wrong = append(wrong, fmt.Errorf("%s: %s: %.200s", v.Publish.Topic, v.Reason, v.Publish.Payload))
	}
	if r.bridge != nil {
		letters, err := r.bridge.letters(ctx, r.Thing)
		if err != nil {
			return err
		}
		for line := range strings.Lines(letters) {
			wrong = append(wrong, fmt.Errorf("a dead letter: %.400s", strings.TrimSpace(line)))
		}
	}
	if more := len(wrong) - 5; more > 0 {
		wrong = append(wrong[:5], fmt.Errorf("and %d more", more))
	}
	return errors.Join(wrong...)
}

func (r *run) stops(ctx context.Context) error {
	if err := r.program.running(); err != nil {
		return err
	}
	return r.program.stop(ctx, terminate, stopPatience)
}

// startsEarly starts the program while there is nothing that it could connect to.
func (r *run) startsEarly(ctx context.Context) error {
	r.program.kill()
	r.cut()
	if err := r.startProgram(); err != nil {
		return err
	}
	if err := rest(ctx, r.Settle); err != nil {
		return err
	}
	mark := len(r.sim.Received())
	if err := r.restore(ctx); err != nil {
		return err
	}
	err := r.until(ctx, func() error {
		for _, p := range r.sim.Received()[mark:] {
			if p.Topic == r.topic(mapping.ShadowReport, "") {
				return nil
			}
		}
		return errors.New("it reported nothing when the server was there")
	})
	if err != nil {
		return err
	}
	if err := rest(ctx, r.Settle); err != nil { // its questions are answered
		return err
	}
	r.cut() // what it may have to say can't be said any more
	if err := rest(ctx, r.Settle); err != nil {
		return err
	}
	return r.program.stop(ctx, interrupt, stopPatience)
}
