package local

import (
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// headerRequestInfo is put on by the server when a message comes from a user's account.
const headerRequestInfo = "Nats-Request-Info"

// admit takes from a program's message what is not for the stream that all Things share. A message id
// counts for its subject only: else a program could have another one's message taken for a duplicate,
// and so lost, by using its id first. And batches are the bridge's: those that a program opens and
// never ends would use up their number.
func admit(m *nats.Msg) {
	for k, v := range m.Header {
		switch {
		case k == jetstream.MsgIDHeader && len(v) > 0:
			m.Header[k] = []string{v[0] + " " + m.Subject}
		case k == headerRequestInfo || strings.HasPrefix(k, "Nats-Batch-"):
			delete(m.Header, k)
		}
	}
}
