package bridge

import (
	"context"
	"net/http"
	"time"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// Request is a question or a checked publish of a local program, `{prefix}.req.…`.
type Request struct {
	Thing mapping.Thing
	// Address is the upward address that the subject names; it is empty when ShadowGet is set.
	Address mapping.Address
	// ShadowGet asks for the shadow document, the one request that has no topic.
	ShadowGet bool
	Payload   []byte
	// Worker is the header Fleets-Worker: who wants to lease the execution that start-next returns.
	Worker string
	// Timeout is the header Fleets-Timeout; 0: the configured one holds. Only a shorter one counts.
	Timeout time.Duration
	Trace   Trace
}

// Response is what the program gets.
type Response struct {
	Payload []byte
	Header  map[string]string
	Trace   Trace // of the cloud's answer; it goes with an error, too
	// Unheard is set, also beside an error, when the cloud has answered. The edge calls it when the program that asked is
	// gone: it stores the cloud's answer for everybody, and returns when that is durable or ctx has ended.
	Unheard func(ctx context.Context)
}

// RequestHandler answers requests. An error that is no *RequestError is answered with code 500.
type RequestHandler interface {
	Handle(ctx context.Context, r Request) (Response, error)
}

// RequestError is an answer by the NATS service convention: Code and Message go into the headers
// Nats-Service-Error-Code and Nats-Service-Error, and all of it into a JSON body.
type RequestError struct {
	Code    int              `json:"code"`
	Message string           `json:"message"`
	Details []schemas.Detail `json:"details,omitempty"`
}

func (e *RequestError) Error() string { return e.Message }

// The codes, borrowed from HTTP, which every reader of a log knows.
const (
	StatusBadRequest   = http.StatusBadRequest         // payload or subject
	StatusUnknownThing = http.StatusNotFound           // not configured here, or not registered in Fleets
	StatusConflict     = http.StatusConflict           // version, or leased to another worker
	StatusCloudRefused = http.StatusBadGateway         // the cloud rejected it otherwise
	StatusOffline      = http.StatusServiceUnavailable // not connected
	StatusNoAnswer     = http.StatusGatewayTimeout     // no answer in time
)
