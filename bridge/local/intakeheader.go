package local

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
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
		case k == headerRequestInfo || k == headerStamp || strings.HasPrefix(k, "Nats-Batch-"):
			delete(m.Header, k)
		}
	}
}

// stamper gives events without a timestamp one that is stored with them: when they were taken, but no two of a
// Thing the same. So an event that is sent once more is the same event.
type stamper map[string]int64 // the last, by the Thing's token

func (s stamper) stamp(m *nats.Msg, space string, now time.Time) {
	token := thingToken(m.Subject, space)
	tail := m.Subject[min(len(space)+len(token), len(m.Subject)):]
	if !strings.HasPrefix(tail, eventTail) || bytes.Contains(m.Data, []byte(`"timestamp"`)) && gjson.GetBytes(m.Data, "timestamp").Exists() {
		return
	}
	ms := max(now.UnixMilli(), s[token]+1)
	s[token] = ms
	if m.Header == nil {
		m.Header = nats.Header{}
	}
	m.Header[headerStamp] = []string{strconv.FormatInt(ms, 10)}
}

var eventTail, _, _ = strings.Cut(mapping.Event.Route().Tail, "{")

// stampOf reads it.
func stampOf(h nats.Header) int64 {
	if v := h[headerStamp]; len(v) > 0 {
		ms, _ := strconv.ParseInt(v[0], 10, 64)
		return ms
	}
	return 0
}
