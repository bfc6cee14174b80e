package console

import (
	"encoding/json"
	"net/http"
)

// actCloud is an action that no configuration has: it is there when the cloud is simulated.
const actCloud = "cloud"

var cloudEndpoints = []endpoint{
	{method: "POST", path: "cloud", role: operator, action: actCloud, about: "Act as the cloud, in fleetbridge demo only. act is desired (body is a patch of the desired state), command (body has action and params), job (body is its document), cut, restore, refuse (reports) or allow. id is that of the execution or the job.",
		body:   `{"act":"command","body":{"action":"setTemperature","params":{"value":19}}}`,
		sample: `{"id":"9f2c…"}`,
		answer: (*Console).actAsCloud},
}

type cloudRequest struct {
	Act  string          `json:"act"`
	Body json.RawMessage `json:"body"`
}

type cloudAnswer struct {
	ID string `json:"id,omitempty"`
}

func (c *Console) actAsCloud(q *request) (any, error) {
	var in cloudRequest
	if err := q.read(&in); err != nil {
		return nil, err
	}
	id, err := c.cloud(in.Act, in.Body)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%s", err)
	}
	c.log.Info("somebody acted as the cloud in the console", "act", in.Act, "id", id, "role", q.session.role.String(), "login", q.session.id)
	return cloudAnswer{id}, nil
}
