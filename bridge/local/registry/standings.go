package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Standings is what one bridge says of Things.
type Standings struct {
	Bridge   string     `json:"bridge,omitempty"` // its cluster.id; empty: it is in no cluster
	Revision uint64     `json:"revision"`         // up to which change of the registry it has taken over or refused
	Reloaded time.Time  `json:"reloaded"`         // when it last read its files again; zero: not since its start
	Refused  string     `json:"refused"`          // why it did not take them over then
	Things   []Standing `json:"things"`
}

// Standing is how a Thing stands at one bridge.
type Standing struct {
	Thing     string `json:"thing"`
	Here      bool   `json:"here"` // this bridge has its session
	Connected bool   `json:"connected"`
	Queued    uint64 `json:"queued"`            // messages that wait for the broker, as of the last two seconds
	Refused   string `json:"refused,omitempty"` // why its entry in the registry is not taken
}

// standingsSubject is where all bridges are asked.
func standingsSubject(s mapping.Subjects) string { return "_" + s.Prefix() + ".things" }

// ServeStandings has answer asked for the Things of a question, until end is called.
func ServeStandings(nc *nats.Conn, s mapping.Subjects, answer func(things []string) Standings) (end func(), err error) {
	sub, err := nc.Subscribe(standingsSubject(s), func(m *nats.Msg) {
		var things []string
		if json.Unmarshal(m.Data, &things) != nil || len(things) > maxStandings || !wire.Answerable(s, m.Reply) {
			return
		}
		out, _ := json.Marshal(answer(things)) // texts, numbers and times
		_ = nc.Publish(m.Reply, out)
	})
	if err != nil {
		return nil, fmt.Errorf("subscribing to %s: %w", standingsSubject(s), err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

const (
	// maxStandings is how many Things are asked for at a time; with the longest names the question has a quarter of what a
	// server takes.
	maxStandings = 500
	// standingsSilence is how long after an answer there may be more, where it is not known how many bridges there are.
	standingsSilence = 300 * time.Millisecond
	standingsTimeout = 2 * time.Second
)

// AskStandings asks all bridges. bridges is how many answer; 0: that is not known. None is no error: then no bridge runs.
func AskStandings(ctx context.Context, nc *nats.Conn, s mapping.Subjects, things []string, bridges int) (out []Standings, err error) {
	for part := range slices.Chunk(things, maxStandings) {
		answers, err := askStandings(ctx, nc, s, part, bridges)
		if err != nil {
			return nil, err
		}
		for _, a := range answers {
			i := slices.IndexFunc(out, func(o Standings) bool { return o.Bridge == a.Bridge })
			if i < 0 {
				out = append(out, a)
				continue
			}
			a.Things = append(out[i].Things, a.Things...)
			out[i] = a
		}
		bridges = len(out)
	}
	return out, nil
}

func askStandings(ctx context.Context, nc *nats.Conn, s mapping.Subjects, things []string, bridges int) (out []Standings, err error) {
	inbox := nc.NewRespInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	question, err := json.Marshal(things)
	if err != nil {
		return nil, err
	}
	if err := nc.PublishRequest(standingsSubject(s), inbox, question); err != nil {
		return nil, err
	}
	patience := standingsTimeout
	for bridges == 0 || len(out) < bridges {
		wait, cancel := context.WithTimeout(ctx, patience)
		m, err := sub.NextMsgWithContext(wait)
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders) {
			break
		}
		if err != nil {
			return nil, err
		}
		var a Standings
		if err := json.Unmarshal(m.Data, &a); err != nil {
			return nil, fmt.Errorf("a bridge answers what is no JSON: %w", err)
		}
		if out = append(out, a); bridges == 0 {
			patience = standingsSilence
		}
	}
	return out, nil
}
