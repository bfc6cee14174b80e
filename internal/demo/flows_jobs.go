package demo

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/tidwall/gjson"

	"fleetbridge/fleetsim"
)

// jobID is plain, so that it is the same in topics and subjects.
const jobID = "firmware-2"

func (s *stage) job(ctx context.Context) error {
	install := sync.OnceFunc(func() { close(s.installed) })
	defer install() // later jobs need not wait
	if _, err := s.sim.CreateJob(fleetsim.Job{ID: jobID, Things: []string{Thing}, Document: []byte(`{"action":"install","version":"2.1"}`)}); err != nil {
		return err
	}
	if !s.poll(ctx, func() bool { return len(s.thermostat.hint) > 0 }) {
		return missing("hints that the thermostat got", "1", 0)
	}
	s.startWorker()
	if err := s.arrives(ctx, "jobs/"+jobID+"/update", progress("50 %")); err != nil {
		return err
	}
	answer, code, err := s.request(ctx, updaterName, "jobs.start-next", "")
	if err != nil {
		return err
	}
	if err := expect("the answer to a second worker", "error 409", "error "+code); err != nil {
		return err
	}
	if err := expect("its reason", true, strings.Contains(gjson.GetBytes(answer.Data, "message").String(), thermostatName)); err != nil {
		return err
	}
	s.tick(ctx, "the thermostat has the job; the updater, which asks for one too, gets error 409")
	install()
	x, err := s.sim.WaitExecution(ctx, jobID, Thing, fleetsim.Succeeded)
	if err != nil {
		return missing("the job in the cloud", fleetsim.Succeeded, s.jobStatus())
	}
	if err := expect("the job's last details in the cloud", `{"progress":"done"}`, string(x.StatusDetails)); err != nil {
		return err
	}
	s.tick(ctx, "the job is SUCCEEDED in the cloud, by way of IN_PROGRESS at 50 %%")
	return nil
}

// startWorker lets the thermostat do jobs until the end of the demo.
func (s *stage) startWorker() {
	ctx, stop := context.WithCancel(context.Background())
	var worker sync.WaitGroup
	worker.Go(func() { s.thermostat.work(ctx) })
	s.later(func() error { stop(); worker.Wait(); return nil })
}

func (s *stage) jobStatus() string {
	list, err := s.sim.Executions(jobID)
	if err != nil || len(list) == 0 {
		return fmt.Sprintf("no execution, %v", err)
	}
	return list[0].Status
}

// arrives waits until a message on the topic, given without what all topics of the Thing have in common,
// has reached the broker; match may be nil.
func (s *stage) arrives(ctx context.Context, tail string, match func(payload []byte) bool) error {
	topic := "$emqx/things/" + Thing + "/" + tail
	_, err := s.sim.WaitPublish(ctx, func(p fleetsim.Publish) bool {
		return p.Topic == topic && (match == nil || match(p.Payload))
	})
	if err != nil {
		return missing("a message at the broker", "one on "+topic, "none")
	}
	s.sim.Violations() // the simulator is not free for it until it has answered
	return nil
}

// nth matches the n-th message.
func nth(n int) func([]byte) bool {
	return func([]byte) bool { n--; return n == 0 }
}

// progress matches an update of a job under way.
func progress(details string) func([]byte) bool {
	return func(payload []byte) bool {
		return gjson.GetBytes(payload, "status").String() == fleetsim.InProgress && gjson.GetBytes(payload, "statusDetails.progress").String() == details
	}
}
