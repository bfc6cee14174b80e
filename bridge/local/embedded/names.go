package embedded

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/local/door"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Clients that subscribe through JetStream ask which stream has the subject. FLEETS_DOWN and FLEETS_DEAD listen on
// internal subjects, so to the server they have not what they hold under the public ones. The embedded server's global
// account therefore hands that question to the bridge, which answers for these two as well. What a user asks is the Clerk's.

func namesSubject(s mapping.Subjects) string { return "_" + s.Prefix() + ".names" }

// namesTime bounds an answer: clients wait some 5 s for it.
const namesTime = 4 * time.Second

// namesPending is how many questions may wait. What comes beyond it is lost: after a flood nobody waits for it.
const namesPending = 256

// serveNames answers until the server stops.
func (s *Server) serveNames() error {
	var err error
	if s.names, err = s.Connect("fleetbridge stream names"); err != nil {
		return err
	}
	n := namesDesk{s.names, s.subjects}
	sub, err := s.names.Subscribe(namesSubject(s.subjects), n.answer)
	if err == nil {
		err = sub.SetPendingLimits(namesPending, -1)
	}
	if err == nil {
		err = s.names.FlushTimeout(wire.APITimeout)
	}
	if err != nil {
		return fmt.Errorf("stream names: %w", err)
	}
	if err := s.nats.GlobalAccount().AddMapping(door.AskNames, namesSubject(s.subjects)); err != nil {
		return err
	}
	return s.brake.ThroughAPI()
}

type namesDesk struct {
	nc       *nats.Conn
	subjects mapping.Subjects
}

// answer asks for the list instead, which has the names too and is not handed here.
func (n namesDesk) answer(m *nats.Msg) {
	if !wire.Answerable(n.subjects, m.Reply) {
		return
	}
	got, err := n.nc.Request("$JS.API.STREAM.LIST", m.Data, namesTime)
	if err != nil {
		return // the server stops, or its JetStream does
	}
	_ = n.nc.Publish(m.Reply, n.names(m.Data, got.Data))
}

// names makes of a page of streams one of names, with those that hold the subject asked for.
func (n namesDesk) names(question, list []byte) []byte {
	var page struct {
		Type    string          `json:"type"`
		Error   json.RawMessage `json:"error,omitempty"`
		Total   int             `json:"total"`
		Offset  int             `json:"offset"`
		Limit   int             `json:"limit"`
		Streams []struct {
			Config struct {
				Name string `json:"name"`
			} `json:"config"`
		} `json:"streams"`
	}
	_ = json.Unmarshal(list, &page) // the server's own
	names := []string{}
	for _, s := range page.Streams {
		names = append(names, s.Config.Name)
	}
	var asked struct {
		Subject string `json:"subject"`
		Offset  int    `json:"offset"`
	}
	if json.Unmarshal(question, &asked) == nil && asked.Subject != "" && asked.Offset == 0 && page.Error == nil {
		names = append(names, n.holders(asked.Subject, names)...)
		page.Total = max(page.Total, len(names))
	}
	answer := map[string]any{"type": "io.nats.jetstream.api.v1.stream_names_response", "total": page.Total, "offset": page.Offset, "limit": page.Limit, "streams": names}
	if page.Error != nil {
		answer["error"] = page.Error
	}
	out, _ := json.Marshal(answer) // of numbers and text
	return out
}

// holders lists the streams that hold a subject and don't listen on it.
func (n namesDesk) holders(subject string, there []string) (out []string) {
	for stream, space := range map[string]string{wire.StreamDown: string(mapping.SpaceDown), wire.StreamDead: wire.SpaceDead} {
		name := n.subjects.Name(stream)
		if _, has := wire.Intersect(subject, wire.MirroredSubject(n.subjects, space)); has && !slices.Contains(there, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
