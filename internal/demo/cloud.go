package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"fleetbridge/fleetsim"
)

// cloud does what somebody in the console has the cloud do. It returns the id of a command's execution or of a job.
func (s *stage) cloud(act string, body []byte) (id string, err error) {
	if !s.toured.Load() {
		return "", errors.New("the tour is under way, and checks all that the cloud does; try again when it has ended")
	}
	switch act {
	case "desired":
		_, err = s.sim.PatchDesired(Thing, body)
	case "command":
		var c struct {
			Action string          `json:"action"`
			Params json.RawMessage `json:"params"`
		}
		if err = json.Unmarshal(body, &c); err == nil {
			id, err = s.sim.SendCommand(fleetsim.Command{Thing: Thing, Action: c.Action, Params: c.Params, TTL: 30 * time.Second})
		}
	case "job":
		var j fleetsim.Job
		j, err = s.sim.CreateJob(fleetsim.Job{Things: []string{Thing}, Document: body})
		id = j.ID
	case "cut":
		s.link.Cut()
	case "restore":
		s.link.Restore()
	case "refuse":
		s.sim.Broker().DenyPublish("$emqx/things/+/shadow/update", 0x87)
	case "allow":
		s.sim.Broker().AllowAll()
	default:
		err = fmt.Errorf("act is %q, write desired, command, job, cut, restore, refuse or allow", act)
	}
	return id, err
}
