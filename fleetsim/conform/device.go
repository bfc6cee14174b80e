package conform

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Device says what the program under test can do, for that is what it is asked for. Nothing but Desired and Command is
// needed; what is left out is not checked.
type Device struct {
	// Desired are patches of the desired state, three or more, that the program follows: it reports the same. Each sets
	// something that the one before does not.
	Desired []json.RawMessage `json:"desired"`
	// Command is an action that the program serves.
	Command Command `json:"command"`
	// Event is the type of an event that the program sends by itself within a minute of its start, or after the command.
	Event string `json:"event,omitempty"`
	// Job is the document of a job that the program does at once, LongJob of one that takes a few seconds.
	Job     json.RawMessage `json:"job,omitempty"`
	LongJob json.RawMessage `json:"longJob,omitempty"`
	// BadJob is the document of a job that the program can't do.
	BadJob json.RawMessage `json:"badJob,omitempty"`
}

// Command is one that must succeed, and with Bad params must not.
type Command struct {
	Action   string            `json:"action"`
	Params   json.RawMessage   `json:"params,omitempty"`
	Reported json.RawMessage   `json:"reported,omitempty"` // what the program reports behind it
	Bad      []json.RawMessage `json:"bad,omitempty"`
}

// ReadDevice reads a description in JSON. The error names what is wrong.
func ReadDevice(data []byte) (Device, error) {
	var d Device
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return d, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return d, errors.New("there is something behind the object")
	}
	var wrong []error
	if len(d.Desired) < 3 {
		wrong = append(wrong, fmt.Errorf("desired: has %d patches, write three or more that differ", len(d.Desired)))
	}
	for i, p := range d.Desired {
		if !isObject(p) {
			wrong = append(wrong, fmt.Errorf("desired[%d]: is no object", i))
		}
		if i > 0 && bytes.Equal(p, d.Desired[i-1]) {
			wrong = append(wrong, fmt.Errorf("desired[%d]: is the same as the one before", i))
		}
	}
	if d.Command.Action == "" {
		wrong = append(wrong, errors.New("command.action: name an action that the program serves"))
	}
	for name, raw := range map[string]json.RawMessage{"command.params": d.Command.Params, "command.reported": d.Command.Reported, "job": d.Job, "longJob": d.LongJob, "badJob": d.BadJob} {
		if raw != nil && !isObject(raw) {
			wrong = append(wrong, fmt.Errorf("%s: is no object", name))
		}
	}
	return d, errors.Join(wrong...)
}

func isObject(raw json.RawMessage) bool { return bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) }
