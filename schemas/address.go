package schemas

import (
	"errors"
	"fmt"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// CheckAddress compares an upward payload that has passed Check with the address it is sent to: an
// event's eventType must be the type in the address (protocol page, "Publish Events"), and the
// thingName of a jobs request, when there is one, must be the Thing. The error is an *Error.
func CheckAddress(a mapping.Address, payload []byte) error {
	r := a.Route()
	switch {
	case r.Direction != mapping.Up:
		return nil
	case a.Channel == mapping.Event:
		return same(payload, "eventType", a.ID, "the event type in the address", true)
	case r.Accepted != "":
		return same(payload, "thingName", string(a.Thing), "the Thing in the address", false)
	}
	return nil
}

// CheckEventType checks that a topic can carry the eventType of an event that has passed Check. The bridge
// refuses what breaks this by its address, which such an event can't have. The error is an *Error.
func CheckEventType(payload []byte) error {
	const member = "eventType"
	v := gjson.GetBytes(payload, member)
	err := mapping.CheckID(v.String())
	if err == nil {
		return nil
	}
	if inner := errors.Unwrap(err); inner != nil {
		err = inner
	}
	return refuse([]Detail{{pointer(member), fmt.Sprintf("%s can be no event type in an address: %s", show(v.String()), err)}})
}

// same checks that a member is the string that the address has.
func same(payload []byte, member, want, what string, needed bool) error {
	v := gjson.GetBytes(payload, member)
	switch {
	case !v.Exists() && !needed, v.Type == gjson.String && v.Str == want:
		return nil
	case !v.Exists():
		return refuse([]Detail{{pointer(member), fmt.Sprintf("is missing, add %s, %s", show(want), what)}})
	case v.Type == gjson.String:
		return refuse([]Detail{{pointer(member), fmt.Sprintf("%s is not %s, use %s", show(v.Str), what, show(want))}})
	}
	return refuse([]Detail{{pointer(member), fmt.Sprintf("must be a string, %s: %s", what, show(want))}})
}

// LooksLikeSeconds reports whether an event's timestamp was probably written in seconds instead of
// milliseconds: as milliseconds it would lie before March 1973. Such an event is sent all the same.
func LooksLikeSeconds(timestamp gjson.Result) bool {
	return timestamp.Type == gjson.Number && timestamp.Num > 0 && timestamp.Num < 1e11
}
