package asyncapi

import (
	"fmt"

	"github.com/nats-io/nats.go/micro"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// Names of schemas and messages that are no channel's.
const (
	pubAck       = "pubAck"
	failure      = "error"
	status       = "status"
	handlerReply = "command.reply"
	handlerError = "command.error"
	reqShadow    = "req." + mapping.ShadowGet
	shadowAnswer = "answer." + mapping.ShadowGet
)

const contentJSON = "application/json"

// message makes one. A payload that has no schema is anything.
func message(title, about, schema string, head object) object {
	out := object{{"name", title}, {"title", title}, {"summary", about}}
	if schema == "" {
		out = out.with("contentType", "application/octet-stream")
	} else {
		out = out.with("contentType", contentJSON)
	}
	if len(head) > 0 {
		out = out.with("headers", head)
	}
	if schema != "" {
		out = out.with("payload", ref("schemas", schema))
	}
	return out
}

func ref(section, name string) object {
	return object{{"$ref", "#/components/" + section + "/" + name}}
}

// messages lists every message, by the space and the channel that it is used in.
func messages() object {
	out := object{}
	for _, r := range mapping.Routes() {
		name := string(r.Channel)
		if r.Direction == mapping.Down {
			source := []member(nil)
			if r.Channel == mapping.ShadowDelta {
				source = []member{{wire.HeaderSource, words("Set when the bridge fetched it over HTTPS.", bridge.SourceShadowGet)}}
			}
			out = out.with("down."+name, message("down."+name, about(r), name, headers(4, stamped(mapping.Down, false), source, traces())))
			continue
		}
		out = out.with("up."+name, message("up."+name, about(r), name, headers(0, published(), traces())))
		out = out.with("req."+name, message("req."+name, about(r)+question(r), name, headers(0, requestHeaders(r)...)))
	}
	out = out.with(reqShadow, message(reqShadow, "ask for the shadow document; the payload is not looked at", "", headers(0, asked(), traces())))
	for _, r := range mapping.Routes() {
		if r.Accepted != "" {
			name := "answer." + string(r.Channel)
			out = out.with(name, message(name, r.Accepted.Route().About+"; with the caller's own clientToken, or none", string(r.Accepted), headers(0, traces())))
		}
	}
	out = out.with(shadowAnswer, message(shadowAnswer, "the shadow document", schemas.ShadowDocument,
		headers(0, []member{{bridge.HeaderStale, words("The cloud can't be reached: this is the last known document.", "true")}})))
	out = out.with(pubAck, message(pubAck, "JetStream has stored it: the gateway owns it now, and it reaches the broker or the dead letters", pubAck, nil))
	out = out.with(failure, message(failure, "an error by the NATS service convention; the cloud's rejections, too", failure, headers(2, refused(), traces())))
	return commandMessages(deadMessages(out))
}

// question says what may be left out of a request's payload.
func question(r mapping.Route) string {
	if r.Accepted == "" {
		return "; checked first, and stored nowhere when it is bad"
	}
	return "; thingName and clientToken may be left out, and so may the whole payload"
}

func requestHeaders(r mapping.Route) [][]member {
	list := [][]member{traces()}
	if r.Accepted != "" {
		list = append(list, asked())
	}
	if r.Channel == mapping.JobsStartNext || r.Channel == mapping.JobUpdate {
		list = append(list, worker())
	}
	return list
}

func commandMessages(out object) object {
	out = out.with("cmd", message("cmd", "a command to execute: the cloud's payload unchanged", string(mapping.CommandRequest), headers(1, []member{
		{wire.HeaderExecution, text("The execution's id, percent-encoded.")},
		{wire.HeaderDeadline, moment("Until when the reply counts, UTC; missing when the command has no end.")},
	}, traces())))
	out = out.with(handlerReply, message(handlerReply, "how the command ended; a reply without a payload means SUCCEEDED, one that breaks the schema FAILED and a dead letter",
		string(mapping.CommandResponse), headers(0, traces())))
	head := headers(1, []member{
		{micro.ErrorCodeHeader, text("Becomes the member code of the response's result.")},
		{micro.ErrorHeader, text("Becomes the member error of the response's result.")},
	}, traces())
	return out.with(handlerError, message(handlerError, "the command failed: the response is FAILED; the payload is not looked at", "", head))
}

func deadMessages(out object) object {
	subject := []member{{wire.HeaderSubject, text("The subject that the program used, percent-encoded.")}}
	truncated := []member{{wire.HeaderTruncated, text("How many bytes the payload had, when it was too large to be kept whole.")}}
	up := headers(4, deadly(), stamped(mapping.Up, true), subject, truncated, traces())
	out = out.with("dead.up", message("dead.up", "what a program published and can never reach the cloud, byte for byte; its id is the stream sequence", "", up))
	down := headers(4, deadly(), stamped(mapping.Down, true), truncated, traces())
	out = out.with("dead.down", message("dead.down", "what the cloud sent and no program should see, byte for byte; its id is the stream sequence", "", down))
	out = out.with(schemas.ShadowDocument, message(schemas.ShadowDocument, "the last known shadow", schemas.ShadowDocument, nil))
	return out.with(status, message(status, "how the Thing's connection stands", status, nil))
}

func about(r mapping.Route) string {
	if r.EmptyOK {
		return r.About + "; may have no payload"
	}
	return r.About
}

// payloads lists the schemas of the catalog, and those of what only the bridge writes.
func payloads(c *schemas.Catalog) (object, error) {
	out := object{}
	for _, name := range c.Names() {
		parsed, err := parse(c.Source(name))
		if err == nil {
			parsed, err = draft7(parsed)
		}
		if err != nil {
			return nil, fmt.Errorf("schema of %s: %w", name, err)
		}
		out = out.with(name, parsed)
	}
	integer := func(about string) object {
		return object{{"type", "integer"}, {"minimum", 0}, {"description", about}}
	}
	truth := func(about string) object { return object{{"type", "boolean"}, {"description", about}} }
	out = out.with(pubAck, object{{"type", "object"}, {"title", "JetStream's acknowledgement"}, {"required", []any{"stream", "seq"}}, {"properties", object{
		{"stream", text("The stream that stored it.")},
		{"seq", integer("Its sequence there.")},
		{"duplicate", truth("It was stored before, under the same Nats-Msg-Id.")},
	}}})
	out = out.with(failure, object{{"type", "object"}, {"title", "An error"}, {"required", []any{"code", "message"}}, {"properties", object{
		{"code", object{{"type", "integer"}, {"description", "As in the header Nats-Service-Error-Code."}}},
		{"message", text("What is wrong.")},
		{"details", object{{"type", "array"}, {"description", "Where in the payload."}, {"items", object{{"type", "object"}, {"properties", object{
			{"pointer", text("A JSON pointer.")}, {"message", text("What is wrong there.")}}}}}}},
	}}})
	out = out.with(status, object{{"type", "object"}, {"title", "How a Thing's connection stands"}, {"properties", object{
		{"connected", truth("The MQTT session is connected.")},
		{"since", moment("When connected changed last.")},
		{"subscribed", truth("Every filter is granted.")},
		{"sessionPresent", truth("The broker had kept the session at the last connection.")},
		{"shadow", words("How much the document in the shadow bucket is worth.", string(bridge.ShadowKnown), string(bridge.ShadowStale), string(bridge.ShadowUnknown))},
		{"queued", integer("Messages that wait for the broker.")},
		{"lastError", text("What last went wrong; it stays after a reconnection.")},
	}}})
	return out, nil
}
