package wire

import "github.com/nats-io/nats.go"

const (
	// ServersLeast is the least that a server appends to a stored message's block, RequestLeast to a request's that comes
	// from another account.
	ServersLeast = len("Nats-Stream: S\r\nNats-Subject: s\r\nNats-Sequence: 1\r\nNats-Time-Stamp: 2006-01-02T15:04:05Z\r\n")
	RequestLeast = len(`Nats-Request-Info: {"acc":"a","rtt":1}` + "\r\n")
)

// Obscured reports whether so many bytes of a received message's block may not be among the headers that nats.go has read
// of it. It counts the fewest bytes that those take: a line without a blank, ended by LF.
func Obscured(m *nats.Msg, least int) bool {
	read := len("NATS/1.0\n") + len("\n")
	for key, values := range m.Header {
		if key == "Status" || key == "Description" { // nats.go makes them of the first line
			return true
		}
		for _, v := range values {
			read += len(key) + len(":") + len(v) + len("\n")
		}
	}
	return m.Size()-len(m.Subject)-len(m.Reply)-len(m.Data)-read >= least
}
