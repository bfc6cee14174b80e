package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"fleetbridge/bridge"
)

// Answers sends answers that NATS takes, and says when one is lost all the same.
type Answers struct {
	nc  *nats.Conn
	log *slog.Logger

	mu    sync.Mutex
	quiet time.Time // until when nothing is logged
}

// unsentPause is between two log lines about answers that were not sent.
const unsentPause = time.Minute

// NewAnswers sends on a connection.
func NewAnswers(nc *nats.Conn, log *slog.Logger) *Answers { return &Answers{nc: nc, log: log} }

// Send publishes an answer. The error has been logged, but for one that is lost with the connection, and
// with it the program that waits.
func (a *Answers) Send(m *nats.Msg) error {
	err := a.nc.PublishMsg(m)
	if err == nil || errors.Is(err, nats.ErrConnectionClosed) {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := time.Now(); now.After(a.quiet) {
		a.quiet = now.Add(unsentPause)
		a.log.Warn("an answer to a program could not be sent", "subject", OneLine(m.Subject, MaxLine), "bytes", Size(m), "error", err)
	}
	return err
}

// Room is how many bytes an answer may have, headers included.
func (a *Answers) Room() int { return int(a.nc.MaxPayload()) }

// Answer spells a response that fits into room. One that does not becomes an error.
func Answer(reply string, response bridge.Response, err error, room int) *nats.Msg {
	m := &nats.Msg{Subject: reply, Data: response.Payload, Header: nats.Header{}}
	for k, v := range response.Header {
		m.Header.Set(k, HeaderText(OneLine(v, MaxLine)))
	}
	SetTrace(m.Header, response.Trace)
	if n := Size(m); err == nil && n > room {
		err = &bridge.RequestError{Code: internalError, Message: fmt.Sprintf("the answer has %d bytes, NATS takes %d", n, room)}
	}
	if err == nil {
		return m
	}
	m.Header = nats.Header{}
	SetTrace(m.Header, response.Trace)
	if Size(m)-len(m.Data) > room/2 {
		m.Header = nats.Header{}
	}
	ErrorAnswer(m, err, room)
	return m
}

const internalError = 500

// ErrorAnswer spells an error by the NATS service convention, with so many of the details as there is room
// for; as text in a header it may be three times as long. The first detail stays longest; where even the bare message is too much there is no body.
func ErrorAnswer(m *nats.Msg, err error, room int) {
	e := bridge.RequestError{Code: internalError, Message: err.Error()}
	if known := (*bridge.RequestError)(nil); errors.As(err, &known) {
		e = *known
	}
	text := OneLine(e.Message, min(MaxErrorText, max(room/8, len("..."))))
	if text == "" {
		text = "error " + strconv.Itoa(e.Code)
	}
	m.Data = nil
	m.Header.Set(micro.ErrorCodeHeader, strconv.Itoa(e.Code))
	m.Header.Set(micro.ErrorHeader, HeaderText(text))
	left := room - Size(m)
	for {
		body, encodeErr := json.Marshal(e)
		switch {
		case encodeErr != nil:
			return
		case len(body) <= left:
			m.Data = body
			return
		case len(e.Details) > 0:
			e.Details = e.Details[:len(e.Details)/2]
		case len(e.Message) > 16:
			e.Message = OneLine(e.Message, min(len(e.Message)/2, MaxErrorText))
		default:
			return
		}
	}
}
