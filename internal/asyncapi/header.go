package asyncapi

import (
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// headers makes the schema of a message's headers; the first names are required.
func headers(required int, list ...[]member) object {
	properties, names := object{}, []any{}
	for _, part := range list {
		for _, m := range part {
			if len(names) < required {
				names = append(names, m.key)
			}
			properties = properties.with(m.key, m.value)
		}
	}
	out := object{{"type", "object"}, {"properties", properties}}
	if len(names) > 0 {
		out = out.with("required", names)
	}
	return out
}

func text(about string) object { return object{{"type", "string"}, {"description", about}} }

func moment(about string) object {
	return object{{"type", "string"}, {"format", "date-time"}, {"description", about}}
}

// words is a header with these values.
func words(about string, list ...string) object {
	enum := make([]any, len(list))
	for i, w := range list {
		enum[i] = w
	}
	return text(about).with("enum", enum)
}

func traces() []member {
	return []member{
		{"traceparent", text("W3C trace context; an MQTT 5 user property on the other side.")},
		{"tracestate", text("W3C trace state; an MQTT 5 user property on the other side.")},
	}
}

func published() []member {
	return []member{{nats.MsgIdHdr, text("Makes a publish that is repeated within 2 minutes a duplicate, which is stored once.")}}
}

func asked() []member {
	return []member{{wire.HeaderTimeout, text("How long to wait for the cloud's answer, as a Go duration such as 2s; only a shorter time than requests.timeout counts.")}}
}

func worker() []member {
	return []member{{wire.HeaderWorker, text("Who leases, or has leased, the execution.")}}
}

// stamped are the headers of what came from the cloud, and of dead letters.
func stamped(d mapping.Direction, dead bool) []member {
	out := []member{
		{wire.HeaderThing, text("The Thing's name, percent-encoded.")},
		{wire.HeaderChannel, words("The channel's name.", channels(d)...)},
		{wire.HeaderTopic, text("The MQTT topic, percent-encoded.")},
		{wire.HeaderReceived, moment("When the bridge received it, with nanoseconds, UTC.")},
	}
	if dead { // a stray has no channel
		out[1] = member{wire.HeaderChannel, words("The channel's name; missing when it belongs to none.", channels(d)...)}
		out[1], out[3] = out[3], out[1] // what may be missing comes last
	}
	return out
}

func channels(d mapping.Direction) []string {
	var out []string
	for _, r := range mapping.Routes() {
		if r.Direction == d {
			out = append(out, string(r.Channel))
		}
	}
	return out
}

// deadly are the headers that say why a message died.
func deadly() []member {
	var names []string
	for _, c := range bridge.Codes {
		names = append(names, string(c))
	}
	return []member{
		{wire.HeaderErrorCode, words("Why it can never go on.", names...)},
		{wire.HeaderError, text("The same for people, with the JSON pointer, percent-encoded.")},
	}
}

func refused() []member {
	return []member{
		{micro.ErrorCodeHeader, words("Borrowed from HTTP: 400 bad payload or subject, 404 unknown Thing, 409 version conflict or leased to another worker, 502 rejected by the cloud, 503 not connected or not stored, 504 no answer in time, 500 the gateway's own fault.",
			"400", "404", "409", "500", "502", "503", "504")},
		{micro.ErrorHeader, text("What is wrong.")},
	}
}

// oneLine keeps descriptions on one line of the document.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
