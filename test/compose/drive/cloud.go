package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// cloud is the simulator's HTTP API, as an operator uses it. Every call is tried once.
type cloud struct {
	base string
	http *http.Client
}

func newCloud(base string) *cloud {
	// The broker's network is taken away and given back: a connection of before would hang.
	return &cloud{base, &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// errExists is the answer to a second try of what the first has made.
var errExists = errors.New("is there already")

// call sends a body, unless it is nil, and decodes the answer.
func (c *cloud) call(ctx context.Context, method, path string, body, answer any) error {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+"/api/v1/"+path, content)
	if err != nil {
		return err
	}
	r.SetBasicAuth(os.Getenv("FLEETS_API_KEY"), os.Getenv("FLEETS_API_SECRET"))
	resp, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusConflict {
		return errExists
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(b))
	}
	return json.Unmarshal(b, answer)
}

type shadow struct {
	Reported map[string]any `json:"reported"`
	Delta    map[string]any `json:"delta"`
}

func (c *cloud) shadow(ctx context.Context, thing string) (s shadow, err error) {
	err = c.call(ctx, http.MethodGet, "thing-datas/"+thing+"/shadow", nil, &s)
	return s, err
}

func (c *cloud) desire(ctx context.Context, thing string, desired map[string]any) error {
	return c.call(ctx, http.MethodPatch, "things/"+thing+"/shadow", map[string]any{"desired": desired}, &struct{}{})
}

type execution struct {
	ID        string            `json:"id"`
	CommandID string            `json:"commandId"`
	Status    string            `json:"status"`
	Responses []json.RawMessage `json:"responses"`
}

func (c *cloud) command(ctx context.Context, thing string, value float64) (e execution, err error) {
	err = c.call(ctx, http.MethodPost, "commands", map[string]any{
		"thingName": thing, "action": "setTemperature", "params": map[string]any{"value": value}, "ttl": 300}, &e)
	return e, err
}

func (c *cloud) outcome(ctx context.Context, id string) (e execution, err error) {
	err = c.call(ctx, http.MethodGet, "commands/"+id, nil, &e)
	return e, err
}

func (c *cloud) job(ctx context.Context, thing, id string) error {
	err := c.call(ctx, http.MethodPost, "jobs", map[string]any{"jobId": id,
		"targets": map[string]any{"thingNames": []string{thing}}, "document": map[string]any{"firmware": "2.0", "seconds": 0.1}}, &struct{}{})
	if errors.Is(err, errExists) {
		return nil
	}
	return err
}

// jobStatus is how the one execution of a job stands.
func (c *cloud) jobStatus(ctx context.Context, id string) (string, error) {
	var list struct {
		Items []struct {
			Status string `json:"status"`
		} `json:"items"`
	}
	if err := c.call(ctx, http.MethodGet, "jobs/"+id+"/executions", nil, &list); err != nil {
		return "", err
	}
	if len(list.Items) != 1 {
		return "", fmt.Errorf("job %s has %d executions", id, len(list.Items))
	}
	return list.Items[0].Status, nil
}

type event struct {
	Type string `json:"eventType"`
	Data struct {
		Run string `json:"run"`
		N   int    `json:"n"`
	} `json:"data"`
	Arrived time.Time `json:"arrivedAt"`
}

func (c *cloud) events(ctx context.Context, thing string) ([]event, error) {
	var list struct {
		Items []event `json:"items"`
	}
	err := c.call(ctx, http.MethodGet, "things/"+thing+"/events", nil, &list)
	return list.Items, err
}
