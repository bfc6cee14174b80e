package bridge

import (
	"errors"
	"strings"

	"github.com/tidwall/gjson"

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
	return rejection(checkOwn(own, a, payload))
}

func checkOwn(own *schemas.ThingSchemas, a mapping.Address, payload []byte) error {
	switch a.Channel {
	case mapping.ShadowReport:
		reported := mapping.Merge(nil, part(payload, "state.reported")) // a null deletes, it is no value
		return schemas.Under(schemas.PartReported, own.CheckReported(reported))
	case mapping.Event:
		return schemas.Under(schemas.PartData, own.CheckEvent(a.ID, part(payload, "data")))
	case mapping.CommandRequest:
		return schemas.Under(schemas.PartParams, own.CheckCommand(gjson.GetBytes(payload, "action").String(), part(payload, "params")))
	default:
		return nil
	}
}

func part(payload []byte, path string) []byte {
	v := gjson.GetBytes(payload, path)
	if v.Type == gjson.Null {
		return nil
	}
	return []byte(v.Raw)
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
