package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// unopened says why there is no connection to speak MQTT on.
func unopened(ctx context.Context, wire *meter, err error) error {
	late, silent := context.Cause(ctx).(silence)
	switch {
	case silent && wire.connected():
		return &serverError{noHandshake(late)}
	case silent:
		return fmt.Errorf("no TCP connection within %v", time.Duration(late))
	case context.Cause(ctx) != nil:
		err = context.Cause(ctx)
	}
	if wire.connected() {
		return &serverError{plain(err)}
	}
	return plain(err)
}

// noHandshake is a server that takes the connection, and nothing moves on it for so long.
type noHandshake time.Duration

func (n noHandshake) Error() string {
	return fmt.Sprintf("no TLS or WebSocket handshake within %v", time.Duration(n))
}

// serverError is a failure of a server that was reached.
type serverError struct{ error }

func (e *serverError) Unwrap() error { return e.error }

// unconnected returns why CONNECT failed.
func (l *link) unconnected(ctx context.Context, answer *paho.Connack, err error) error {
	cause := l.conn.lost()
	late, silent := context.Cause(ctx).(silence)
	switch {
	case answer != nil && answer.ReasonCode >= 0x80:
		refusal := &brokerError{packet: "CONNACK", code: answer.ReasonCode}
		if p := answer.Properties; p != nil {
			refusal.text, refusal.reference = p.ReasonString, p.ServerReference
		}
		err = refusal
	case silent:
		err = fmt.Errorf("no CONNACK within %v", time.Duration(late))
	case errors.Is(context.Cause(ctx), context.DeadlineExceeded): // of who asked for the connection
		err = errors.New("no CONNACK in time")
	case context.Cause(ctx) != nil:
		err = context.Cause(ctx)
	case cause != nil:
		err = cause
	case errors.Is(err, io.EOF): // not of the stream but of the packet
		err = errors.New("malformed CONNACK: the broker does not speak MQTT 5")
	}
	return &serverError{err}
}
