package local

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/tidwall/gjson"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// stamper gives events without a timestamp one that is stored with them: when they were taken, but no two of a
// Thing the same. So an event that is sent once more is the same event.
type stamper map[string]*bridge.StampClock // by the Thing's token

func (s stamper) stamp(m *nats.Msg, space string, now time.Time) {
	token := wire.ThingToken(m.Subject, space)
	tail := m.Subject[min(len(space)+len(token), len(m.Subject)):]
	if !strings.HasPrefix(tail, eventTail) || bytes.Contains(m.Data, []byte(`"timestamp"`)) && gjson.GetBytes(m.Data, "timestamp").Exists() {
		return
	}
	clock := s[token]
	if clock == nil {
		clock = &bridge.StampClock{}
		s[token] = clock
	}
	clock.SetBack(now)
	ms := clock.Next(now.UnixMilli())
	if m.Header == nil {
		m.Header = nats.Header{}
	}
	m.Header[wire.HeaderStamp] = []string{strconv.FormatInt(ms, 10)}
}

var eventTail, _, _ = strings.Cut(mapping.Event.Route().Tail, "{")

// stampOf reads it.
func stampOf(h nats.Header) int64 {
	if v := h[wire.HeaderStamp]; len(v) > 0 {
		ms, _ := strconv.ParseInt(v[0], 10, 64)
		return ms
	}
	return 0
}
