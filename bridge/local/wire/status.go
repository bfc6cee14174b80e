package wire

import (
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// StatusMessage is an answer that has a status in the place of a payload, as the server writes it.
func StatusMessage(subject, code, text string) *nats.Msg {
	m := nats.NewMsg(subject)
	m.Header.Set("Status", code)
	m.Header.Set("Description", text)
	return m
}

// NobodyThere tells the server's word that a message found no subscriber.
func NobodyThere(m *nats.Msg) bool { return len(m.Data) == 0 && m.Header.Get("Status") == "503" }

// Refuse is the answer to what a user may not do.
func Refuse(format string, args ...any) error {
	return &jetstream.APIError{Code: 403, ErrorCode: CodeForbidden, Description: fmt.Sprintf(format, args...)}
}

// CodeForbidden is of no meaning to clients, but some insist on one.
const CodeForbidden = 10101
