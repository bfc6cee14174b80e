package gateway

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/cloud"
	"fleetbridge/bridge/local"
	"fleetbridge/bridge/sightings"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// What a console reads of a running gateway. Nothing here changes anything, and all of it may be called at any time.

// inForce is the configuration and what belongs to it.
type inForce struct {
	cfg *Config
	own map[mapping.Thing]ownSchemas
}

// Reloaded says how the last reload ended: Err is why it was refused, or nil.
type Reloaded struct {
	At  time.Time
	Err error
}

// Config is the configuration in force. Nobody may change it.
func (g *Gateway) Config() *Config { return g.shown.Load().cfg }

// Catalog returns the bridge's own checks of payloads.
func (g *Gateway) Catalog() *schemas.Catalog { return g.catalog }

// Schemas returns the schemas that a Thing brings; nil: none.
func (g *Gateway) Schemas(t mapping.Thing) *schemas.ThingSchemas {
	return g.shown.Load().own[t].schemas
}

// LastReload returns how the last reload ended; nil: there was none.
func (g *Gateway) LastReload() *Reloaded { return g.reloaded.Load() }

// Build is what is running.
func (g *Gateway) Build() Build { return g.build }

// Run's instance: a name that no other run has, and when it began.
func (g *Gateway) Instance() (id string, started time.Time) { return g.id, g.started }

// Log is where the bridge logs.
func (g *Gateway) Log() *slog.Logger { return g.log }

// Recorder keeps what passes while somebody looks.
func (g *Gateway) Recorder() *sightings.Recorder { return g.watch.recorder }

// Watched counts the viewers of passing messages; n is 1 for one who comes and -1 for one who goes.
func (g *Gateway) Watched(n int) { g.metrics.watched.Add(float64(n)) }

// Unshown counts messages that viewers were not shown.
func (g *Gateway) Unshown(n uint64) { g.metrics.unshown.Add(float64(n)) }

// NATS is the bridge's own connection. An error says why there is none yet.
func (g *Gateway) NATS() (*nats.Conn, mapping.Subjects, error) {
	if g.services.Load() == nil {
		if reason := g.awaited.Load(); reason != nil {
			return nil, mapping.Subjects{}, errors.New(*reason)
		}
		return nil, mapping.Subjects{}, errors.New("the bridge is starting")
	}
	return g.nc, g.subjects(), nil
}

// Fills returns how full the streams are.
func (g *Gateway) Fills(ctx context.Context) ([]local.Fill, error) {
	nc, _, err := g.NATS()
	if err != nil {
		return nil, err
	}
	return local.Fills(ctx, nc, g.storeConfig())
}

// Leased returns the jobs of a Thing that workers have, at most so many.
func (g *Gateway) Leased(ctx context.Context, t mapping.Thing, limit int) ([]local.LeasedJob, error) {
	if _, _, err := g.NATS(); err != nil {
		return nil, err
	}
	return g.store.Leased(ctx, t, limit)
}

// ThingView is what the bridge knows about a Thing now.
type ThingView struct {
	Name   mapping.Thing
	State  cloud.State
	Shadow bridge.ShadowState
	Queued uint64 // as of the last two seconds
	Tally  Tally

	thing *thing
}

// Things returns the Things that there are now, in the order of the configuration. Before the bridge has made them, they have
// only names.
func (g *Gateway) Things() []ThingView {
	all := g.all()
	if len(all) == 0 {
		names := g.metrics.Things()
		out := make([]ThingView, len(names))
		for i, t := range names {
			out[i] = ThingView{Name: t, Shadow: bridge.ShadowUnknown}
		}
		return out
	}
	out := make([]ThingView, len(all))
	for i, t := range all {
		status := t.bridge.Status.Status()
		out[i] = ThingView{Name: t.bridge.Name, State: t.session.State(), Shadow: status.Shadow, Queued: status.Queued, Tally: t.tally.read(), thing: t}
	}
	return out
}

// Oldest is since when the oldest of its messages waits; zero: none does.
func (v ThingView) Oldest() (at time.Time) {
	if v.thing != nil {
		at, _ = v.thing.lanes.Oldest()
	}
	return at
}

// ClientID is its MQTT client ID.
func (v ThingView) ClientID() string {
	if v.thing == nil {
		return ""
	}
	return v.thing.plan.thing.ClientID
}

// Document is the last known shadow document; known is false when there is none.
func (v ThingView) Document() (document []byte, known bool) {
	if v.thing == nil {
		return nil, false
	}
	return v.thing.bridge.ShadowDocument()
}

// Answered returns the Thing's last commands that were answered since the start of the bridge, the newest first.
func (v ThingView) Answered() []bridge.AnsweredCommand {
	if v.thing == nil {
		return nil
	}
	return v.thing.bridge.AnsweredCommands()
}

// Commands returns the Thing's commands that have no answer yet.
func (v ThingView) Commands() []bridge.OpenCommand {
	if v.thing == nil {
		return nil
	}
	return v.thing.bridge.OpenCommands()
}
