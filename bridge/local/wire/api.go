package wire

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// APICode is the error code of a JetStream error, or 0.
func APICode(err error) jetstream.ErrorCode {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode
	}
	return 0
}

// JetStream is the API of a connection, whose JetStream may live in a domain of its own.
func JetStream(nc *nats.Conn) (jetstream.JetStream, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(APITimeout))
	if err != nil {
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	return js, nil
}

// APITimeout bounds a call whose context has no deadline; a slow disk may need seconds.
const APITimeout = 20 * time.Second

// Older reports whether a NATS server's version is before major.minor; known is false when it can't be read.
func Older(version string, major, minor int) (older, known bool) {
	var a, b int
	if n, _ := fmt.Sscanf(version, "%d.%d", &a, &b); n < 2 {
		return false, false
	}
	return a < major || a == major && b < minor, true
}

// Codes of errors of JetStream's.
const (
	CodeUnavailable    = 10008
	CodeNoPeers        = 10005
	CodeBusy           = 10164 // another checked write of the subject is under way
	CodeTooLarge       = 10054
	CodeInProcess      = 10158 // a message with the same id is being stored
	CodeBatchDuplicate = 10201
	CodeBatchBroken    = 10176
)
