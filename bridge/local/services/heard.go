package services

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/tidwall/gjson"

	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

const (
	headerTraceOnly = "Nats-Trace-Only" // the message itself is delivered to nobody
	// heardWait is how long servers may take to say who would get a command.
	heardWait = 2 * time.Second
	maxHeard  = 3 // that are named
)

// heard names who would get a command now, as the servers say it (2.11 and later); empty: they do not.
func (h handlers) heard(t mapping.Thing, action string) string {
	if older, known := wire.Older(h.nc.ConnectedServerVersion(), 2, 11); older || !known { // that would deliver it: a command without content
		return ""
	}
	told, err := h.nc.SubscribeSync(h.nc.NewInbox())
	if err != nil {
		return ""
	}
	defer func() { _ = told.Unsubscribe() }()
	m := nats.NewMsg(h.subjects.Command(t, action))
	m.Header.Set(headerTrace, told.Subject)
	m.Header.Set(headerTraceOnly, "true")
	if h.nc.PublishMsg(m) != nil {
		return ""
	}
	var names []string
	for end := time.Now().Add(heardWait); len(names) == 0; { // each server of a cluster tells of its own clients
		trace, err := told.NextMsg(time.Until(end))
		if err != nil {
			break
		}
		names = append(names, hearersIn(trace.Data)...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if n := len(names) - maxHeard; n > 0 {
		names = append(names[:maxHeard], fmt.Sprintf("%d more", n))
	}
	return strings.Join(names, ", ")
}

// hearersIn are the programs and accounts that a trace says a message goes to.
func hearersIn(trace []byte) (out []string) {
	for _, e := range gjson.GetBytes(trace, "events").Array() {
		text := func(member string) string { return wire.OneLine(e.Get(member).String(), 100) }
		switch kind := text("type"); {
		case kind == "se": // to another account
			out = append(out, "account "+text("acc"))
		case kind == "eg" && text("sub") != "":
			out = append(out, fmt.Sprintf("%s (client %s) on %s", cmp.Or(text("name"), "a program without a name"), text("cid"), text("sub")))
		}
	}
	return out
}
