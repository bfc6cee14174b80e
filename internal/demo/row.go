package demo

import (
	"bytes"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// row is one message on its way between a program and the cloud, as the taps on both sides of the
// bridge saw it.
type row struct {
	kind    kind
	up      bool
	address mapping.Address // without a channel for what has none
	tail    string          // the subject after its space: the same on both sides of the bridge
	who     string          // the program
	subject string          // how it passed NATS; empty: not seen there
	topic   string          // how it passed MQTT; empty: not seen there
	what    string
	payload []byte // as it was sent
	wire    []byte // as the broker got it, if that is known
	notes   []note

	stored   bool // seen on its up subject
	answered bool // a request that has its reply
	dead     bool // seen as a dead letter
	over     bool // nothing more will be seen of it
	printed  bool
	at       time.Time
}

// kind tells how a row came about.
type kind uint8

const (
	plain   kind = iota // published, or sent by the cloud
	request             // a program's question on a req subject
	reply               // what came back on somebody's inbox
	fetch               // the bridge's own request for the shadow
	warning             // a line of a log
)

// note is a line below a row.
type note struct{ label, text string }

// passed notes how the message passed NATS.
func (r *row) passed(who, subject string, payload []byte) {
	r.who, r.subject, r.payload = who, subject, payload
}

// complete tells whether nothing more is to be seen of the row.
func (r *row) complete() bool {
	switch {
	case r.over || r.kind == warning:
		return true
	case !r.up:
		return r.subject != ""
	case r.kind == request && r.asks():
		return r.answered
	case r.subject == "" && r.address.Channel != mapping.JobsGet:
		return false // only that one comes from nowhere
	case r.dead:
		return true
	}
	return r.topic != ""
}

// asks tells whether the request's reply is the cloud's answer, not a PubAck.
func (r *row) asks() bool {
	return r.address.Channel == "" || r.address.Route().Accepted != ""
}

// hint tells the messages that say no more than: look again.
func (r *row) hint() bool {
	return r.address.Channel != "" && r.address.Route().EmptyOK
}

// fits tells whether the bridge can have made one payload of another: it only adds, but for the token of
// a question. So messages on one subject are kept apart when a tap sees them in another order.
func fits(sent, wire []byte) bool {
	if len(sent) == 0 {
		return true
	}
	if bytes.Equal(sent, wire) {
		return true
	}
	s, w := gjson.ParseBytes(sent), gjson.ParseBytes(wire)
	return gjson.ValidBytes(sent) && gjson.ValidBytes(wire) && within(s, w)
}

// within tells whether b has all that a has.
func within(a, b gjson.Result) bool {
	if !a.IsObject() || !b.IsObject() {
		return a.Raw == b.Raw
	}
	members, all := b.Map(), true
	a.ForEach(func(k, v gjson.Result) bool {
		other, ok := members[k.String()]
		all = k.String() == "clientToken" || ok && within(v, other)
		return all
	})
	return all
}

// names are what people call the channels.
var names = map[mapping.Channel]string{
	mapping.ShadowReport: "report", mapping.ShadowDesired: "desired", mapping.ShadowDelta: "delta", mapping.Event: "event",
	mapping.CommandRequest: "command", mapping.CommandResponse: "response", mapping.JobsNotify: "hint", mapping.JobsNotifyNext: "hint",
	mapping.JobUpdate: "update",
}

func name(c mapping.Channel) string {
	switch n, ok := names[c]; {
	case ok:
		return n
	case c == "":
		return "stray"
	case strings.HasSuffix(string(c), ".rejected"):
		return "refusal"
	case strings.HasSuffix(string(c), ".accepted"):
		return "answer"
	}
	return "question"
}
