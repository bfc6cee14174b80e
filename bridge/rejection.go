package bridge

import (
	"fmt"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// Code classifies why a message can never be forwarded. It is the Fleets-Error-Code of its dead
// letter.
type Code string

const (
	CodeJSON       Code = "json"       // no JSON, or JSON that readers disagree about
	CodeSchema     Code = "schema"     // breaks the channel's or the Thing's schema
	CodeSubject    Code = "subject"    // a subject that is no address
	CodeTooLarge   Code = "too_large"  // more bytes or deeper than allowed, here or at the broker
	CodeExpired    Code = "expired"    // too late to be of use
	CodeRefused    Code = "refused"    // the broker will not take it, while it takes others of the kind
	CodeUnexpected Code = "unexpected" // nothing that the cloud should send here
)

// Codes lists them all, in the order of the declaration.
var Codes = [...]Code{CodeJSON, CodeSchema, CodeSubject, CodeTooLarge, CodeExpired, CodeRefused, CodeUnexpected}

// Rejection is the one error that ends retrying: the message goes to the dead letters.
type Rejection struct {
	Code    Code
	Reason  string
	Details []schemas.Detail
	// Overrun is set when the check was given up because it took too many steps.
	Overrun bool
}

func (r *Rejection) Error() string { return r.Reason }

// Rejectf makes a rejection without details.
func Rejectf(code Code, format string, args ...any) *Rejection {
	return &Rejection{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// Letter is a dead letter about to be stored.
type Letter struct {
	Message
	Direction mapping.Direction
	Rejection *Rejection
}
