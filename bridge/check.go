package bridge

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// check validates a payload against its channel's schema, the rules that tie it to its address, and
// the schemas that the Thing brings (nil: none). The error is a *Rejection, or the context's: then
// the check has not ended.
func check(ctx context.Context, c *schemas.Catalog, own *schemas.ThingSchemas, m Message) error {
	route := m.Address.Route()
	if len(m.Payload) == 0 && route.EmptyOK {
		return nil
	}
	if err := c.Check(ctx, string(m.Address.Channel), m.Payload); err != nil {
		return rejection(ctx, err)
	}
	if route.Direction == mapping.Up {
		if err := schemas.CheckAddress(m.Address, m.Payload); err != nil {
			return rejection(ctx, err)
		}
	}
	return rejection(ctx, own.Check(ctx, string(m.Address.Channel), m.Payload))
}

// rejection turns a schema error into a *Rejection that says the same. The context's error stays what it is.
func rejection(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	broken := (*schemas.Error)(nil)
	switch {
	case errors.As(err, &broken):
		return &Rejection{Code: Code(broken.Code), Reason: strings.TrimSpace(broken.Error()), Details: broken.Details, Overrun: broken.Overrun}
	case ctx.Err() != nil:
		return err
	}
	return Rejectf(CodeSchema, "%v", err)
}

// overrunPause is the time between two log lines about checks that were given up: there may be many such payloads.
const overrunPause = time.Minute

// overruns logs the checks of one Thing that were given up: the payload may be good, and it is the
// schema that somebody should look at. nil logs nothing.
type overruns struct {
	log    *slog.Logger
	mu     sync.Mutex
	quiet  time.Time // until when nothing is logged
	hidden int       // how many were not logged
}

func (o *overruns) note(a mapping.Address, err error) {
	r := (*Rejection)(nil)
	if o == nil || !errors.As(err, &r) || !r.Overrun {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Now().Before(o.quiet) {
		o.hidden++
		return
	}
	o.log.Warn("a payload was refused because checking it takes too many steps; look at the Thing's own schema",
		"channel", a.Channel, "id", a.ID, "error", r.Reason, "hidden", o.hidden)
	o.quiet, o.hidden = time.Now().Add(overrunPause), 0
}
