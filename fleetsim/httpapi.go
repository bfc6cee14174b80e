package fleetsim

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// call is one API request: its body is a JSON object, or empty where there is none.
type call struct {
	*http.Request
	body []byte
	doc  gjson.Result
}

func (c call) text(name string) string { return member(c.doc, name).String() }

// operation answers with a status and a body, or an error that is a *Refusal.
type operation func(call) (status int, body any, err error)

func (s *Sim) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, op := range map[string]operation{
		"GET /api/v1/thing-datas/{thing}/shadow":     s.getShadow,
		"POST /api/v1/thing-datas/shadow/reported":   s.postReported,
		"POST /api/v1/thing-datas/events":            s.postEvent,
		"POST /api/v1/thing-datas/command/response":  s.postResponse,
		"POST /api/v1/thing-datas/jobs/get":          s.postQuestion(mapping.JobsGet),
		"POST /api/v1/thing-datas/jobs/start-next":   s.postQuestion(mapping.JobsStartNext),
		"POST /api/v1/thing-datas/jobs/{job}/get":    s.postQuestion(mapping.JobGet),
		"POST /api/v1/thing-datas/jobs/{job}/update": s.postQuestion(mapping.JobUpdate),
		"POST /api/v1/things":                        s.postThing,
		"GET /api/v1/things":                         s.getThings,
		"PATCH /api/v1/things/{thing}/shadow":        s.patchShadow,
		"DELETE /api/v1/things/{thing}/shadow":       s.deleteShadow,
		"GET /api/v1/things/{thing}/events":          s.getEvents,
		"POST /api/v1/thing-types":                   s.postThingType,
		"GET /api/v1/thing-types/{type}":             s.getThingType, // inferred: no page of Fleets has it, only design notes
		"PUT /api/v1/thing-types/{type}":             s.putThingType, // of the simulator only
		"POST /api/v1/commands":                      s.postCommand,
		"GET /api/v1/commands/{command}":             s.getCommand,
		"POST /api/v1/jobs":                          s.postJob,
		"GET /api/v1/jobs/{job}/executions":          s.getExecutions,
		"POST /api/v1/jobs/{job}/cancel":             s.postCancel,
		"DELETE /api/v5/clients/{client}":            s.deleteClient,
		"POST /api/v5/banned":                        s.postBanned,
		"DELETE /api/v5/banned/clientid/{client}":    s.deleteBanned,
		"POST /api/v1/broker/restart":                s.postRestart,
	} {
		mux.Handle(pattern, op)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, notFound("%s %s is no operation of this API", r.Method, r.URL.EscapedPath()))
	})
	return mux
}

func (op operation) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := call{Request: r}
	c.body, _ = io.ReadAll(r.Body) // read before, into memory
	if len(c.body) > 0 {
		var err error
		if c.doc, err = parseObject(c.body); err != nil {
			problem(w, &Refusal{Status: http.StatusBadRequest, Message: "body " + err.Error()})
			return
		}
	}
	status, body, err := op(c)
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		problem(w, refusal)
	case err != nil:
		problem(w, &Refusal{Status: http.StatusInternalServerError, Message: err.Error()})
	default:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(encode(body))
	}
}

// What devices call.

func (s *Sim) getShadow(c call) (int, any, error) {
	d, err := s.Shadow(c.PathValue("thing"))
	s.log.Info("shadow read", "thing", c.PathValue("thing"), "version", d.Version)
	return http.StatusOK, d, err
}

func (s *Sim) postReported(c call) (int, any, error) {
	s.Lock()
	defer s.Unlock()
	version, err := s.report(c.text("thingName"), c.doc)
	return http.StatusOK, struct {
		Version     int64           `json:"version"`
		ClientToken json.RawMessage `json:"clientToken,omitempty"`
	}{version, raw(member(c.doc, "clientToken"))}, err
}

func (s *Sim) postEvent(c call) (int, any, error) {
	s.Lock()
	defer s.Unlock()
	return http.StatusOK, struct{}{}, s.event(c.text("thingName"), "", c.doc)
}

func (s *Sim) postResponse(c call) (int, any, error) {
	s.Lock()
	defer s.Unlock()
	return http.StatusOK, struct{}{}, s.respond(c.text("thingName"), c.text("executionId"), c.doc, false)
}

func (s *Sim) postQuestion(channel mapping.Channel) operation {
	return func(c call) (int, any, error) {
		name, err := mapping.ParseThing(c.text("thingName"))
		if err != nil {
			return 0, nil, invalid("%v", err)
		}
		s.Lock()
		defer s.Unlock()
		answer, _, refusal := s.ask(mapping.Address{Thing: name, Channel: channel, ID: c.PathValue("job")}, c.body)
		if refusal != nil {
			return 0, nil, refusal
		}
		return http.StatusOK, answer, nil
	}
}

// What operators call.

func (s *Sim) postThing(c call) (int, any, error) {
	clientID := c.text("mqttClientId")
	if clientID == "" {
		clientID = c.text("name")
	}
	t, err := s.createThing(c.text("name"), clientID)
	return http.StatusCreated, t, err
}

func (s *Sim) getThings(call) (int, any, error) { return http.StatusOK, list(s.Things()), nil }

// list is how the API wraps several of a kind.
func list[T any](items []T) any {
	return struct {
		Items []T `json:"items"`
		Total int `json:"total"`
	}{append([]T{}, items...), len(items)}
}

func (s *Sim) patchShadow(c call) (int, any, error) {
	if _, err := s.PatchDesired(c.PathValue("thing"), []byte(member(c.doc, "desired").Raw)); err != nil {
		return 0, nil, err
	}
	return s.shadowOf(c.PathValue("thing"))
}

func (s *Sim) deleteShadow(c call) (int, any, error) {
	if _, err := s.ClearDesired(c.PathValue("thing")); err != nil {
		return 0, nil, err
	}
	return s.shadowOf(c.PathValue("thing"))
}

func (s *Sim) shadowOf(key string) (int, any, error) {
	s.Lock()
	defer s.Unlock()
	t, err := s.thingByKey(key)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, t.shadow.document(), nil
}

func (s *Sim) getEvents(c call) (int, any, error) {
	s.Lock()
	defer s.Unlock()
	t, err := s.thingByKey(c.PathValue("thing"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, list(t.events), nil
}

func (s *Sim) postCommand(c call) (int, any, error) {
	ttl := int64(0)
	if v := member(c.doc, "ttl"); v.Exists() {
		var ok bool
		if ttl, ok = integer(v); !ok || ttl < 0 {
			return 0, nil, invalid("ttl %s is no integer of seconds", v.Raw)
		}
	}
	id, err := s.SendCommand(Command{Thing: c.text("thingName"), Action: c.text("action"), Params: raw(member(c.doc, "params")), TTL: time.Duration(ttl) * time.Second})
	if err != nil {
		return 0, nil, err
	}
	e, err := s.Command(id)
	return http.StatusCreated, e, err
}

func (s *Sim) getCommand(c call) (int, any, error) {
	e, err := s.Command(c.PathValue("command"))
	return http.StatusOK, e, err
}

func (s *Sim) postJob(c call) (int, any, error) {
	var names []string
	for _, v := range member(member(c.doc, "targets"), "thingNames").Array() {
		names = append(names, v.String())
	}
	j, err := s.CreateJob(Job{ID: c.text("jobId"), Description: c.text("description"), Things: names, Document: raw(member(c.doc, "document"))})
	return http.StatusCreated, j, err
}

func (s *Sim) getExecutions(c call) (int, any, error) {
	executions, err := s.Executions(c.PathValue("job"))
	return http.StatusOK, list(executions), err
}

func (s *Sim) postCancel(c call) (int, any, error) {
	return http.StatusOK, struct{}{}, s.CancelJob(c.PathValue("job"), member(c.doc, "force").Type == gjson.True)
}
