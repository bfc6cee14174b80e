package bridge

import (
	"errors"
	"strings"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// check validates a payload against its channel's schema, the rules that tie it to its address, and
// the schemas that the Thing brings (nil: none). A nil return is good news.
func check(c *schemas.Catalog, own *schemas.ThingSchemas, a mapping.Address, payload []byte) *Rejection {
	if len(payload) == 0 && a.Route().EmptyOK {
		return nil
	}
	if err := c.Check(string(a.Channel), payload); err != nil {
		return rejection(err)
	}
	if a.Route().Direction == mapping.Up {
		if err := schemas.CheckAddress(a, payload); err != nil {
			return rejection(err)
		}
	}
	return rejection(own.Check(string(a.Channel), payload))
}

// rejection turns a schema error into a Rejection that says the same.
func rejection(err error) *Rejection {
	if err == nil {
		return nil
	}
	broken := (*schemas.Error)(nil)
	if !errors.As(err, &broken) {
		return Rejectf(CodeSchema, "%v", err)
	}
	return &Rejection{Code: Code(broken.Code), Reason: strings.TrimSpace(broken.Error()), Details: broken.Details}
}
