//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// cloud is the simulator's HTTP API, for one Thing.
type cloud struct {
	base  string // http://host:port/api/v1
	thing string
}

const apiKey, apiSecret = "key", "secret"

var client = &http.Client{Timeout: 10 * time.Second}

// call carries out a request; body and answer may be nil.
func (c cloud) call(method, path string, body, answer any) error {
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(data)
	}
	request, err := http.NewRequest(method, c.base+path, payload)
	if err != nil {
		return err
	}
	request.SetBasicAuth(apiKey, apiSecret)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, data)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(data, answer)
}

// state is what a thermostat reports, and what is desired of it.
type state struct {
	Temperature *float64 `json:"temperature"`
	Target      *float64 `json:"targetTemperature"`
}

type shadow struct{ Reported, Desired, Delta state }

func (c cloud) shadow() (s shadow, err error) {
	return s, c.call("GET", "/thing-datas/"+url.PathEscape(c.thing)+"/shadow", nil, &s)
}

func (c cloud) desire(target float64) error {
	return c.call("PATCH", "/things/"+url.PathEscape(c.thing)+"/shadow",
		map[string]any{"desired": map[string]any{"targetTemperature": target}}, nil)
}

type event struct {
	EventType, Severity string
	Data                state
	Timestamp           int64
}

func (c cloud) events() ([]event, error) {
	var list struct{ Items []event }
	return list.Items, c.call("GET", "/things/"+url.PathEscape(c.thing)+"/events", nil, &list)
}

type execution struct {
	ID, Status string
	Result     struct {
		Error  string
		Target *float64 `json:"targetTemperature"`
	}
	Responses []json.RawMessage
}

// command sends one, params as they are, and returns its id.
func (c cloud) command(action string, params any) (id string, err error) {
	var e execution
	err = c.call("POST", "/commands", map[string]any{"thingName": c.thing, "action": action, "params": params, "ttl": 60}, &e)
	return e.ID, err
}

func (c cloud) execution(id string) (e execution, err error) {
	return e, c.call("GET", "/commands/"+url.PathEscape(id), nil, &e)
}

// createJob queues one that takes so many seconds.
func (c cloud) createJob(id string, seconds float64) error {
	return c.call("POST", "/jobs", map[string]any{
		"jobId": id, "targets": map[string]any{"thingNames": []string{c.thing}},
		"document": map[string]any{"firmware": "2.0", "seconds": seconds},
	}, nil)
}

type jobExecution struct {
	Status        string
	StatusDetails struct{ Progress string }
	VersionNumber int
}

func (c cloud) job(id string) (e jobExecution, err error) {
	var list struct{ Items []jobExecution }
	if err := c.call("GET", "/jobs/"+url.PathEscape(id)+"/executions", nil, &list); err != nil {
		return e, err
	}
	if len(list.Items) != 1 {
		return e, fmt.Errorf("job %s has %d executions", id, len(list.Items))
	}
	return list.Items[0], nil
}
