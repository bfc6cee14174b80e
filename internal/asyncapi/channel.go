package asyncapi

import (
	"strings"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// inbox is the channel of answers: its address is the reply subject of each request.
const inbox = "inbox"

// table collects channels and the operations on them.
type table struct {
	subjects   mapping.Subjects
	channels   object
	operations object
	answers    []string // messages of the inbox
}

// Placeholders that print as themselves in a subject.
const (
	anyThing = "fleetbridge--thing"
	anyID    = "fleetbridge--id"
)

func newTable(o Options) *table {
	t := &table{subjects: o.Subjects}
	for _, r := range mapping.Routes() {
		t.route(r)
	}
	t.channel(reqShadow, parametrized(o.Subjects.ShadowGet(anyThing), ""), "ask for the shadow document, from the Fleets HTTP API", reqShadow)
	t.asks(reqShadow, "req", shadowAnswer)
	t.command()
	for _, r := range mapping.Routes() {
		t.dead(r)
	}
	t.state("SHADOW", "shadow", schemas.ShadowDocument, "the last known shadow document of a Thing: get the key, or watch it")
	t.state("STATUS", "status", status, "how a Thing's connection stands: get the key, or watch it; in memory")
	t.finish()
	return t
}

// address prints a subject with its parameters.
func (t *table) address(space mapping.Space, r mapping.Route) string {
	a := mapping.Address{Thing: anyThing, Channel: r.Channel}
	if r.HasID() {
		a.ID = anyID
	}
	return parametrized(t.subjects.Print(space, a), r.IDName())
}

// parametrized puts parameters in the place of the placeholders.
func parametrized(subject, id string) string {
	return strings.NewReplacer(anyThing, "{thing}", anyID, "{"+id+"}").Replace(subject)
}

// route adds a row of the protocol: what programs publish and ask, or what comes down.
func (t *table) route(r mapping.Route) {
	name := string(r.Channel)
	if r.Direction == mapping.Down {
		key := "down." + name
		t.channel(key, t.address(mapping.SpaceDown, r), r.About+"; MQTT topic "+r.Topic+", stored in "+t.subjects.Name("DOWN"), key)
		t.receives(key, "down")
		return
	}
	up, req := "up."+name, "req."+name
	stored := "stored in " + t.subjects.Name("UP_"+strings.ToUpper(r.Class().String()))
	t.channel(up, t.address(mapping.SpaceUp, r), r.About+"; MQTT topic "+r.Topic+", "+stored, up)
	t.asks(up, "up", pubAck)
	t.channel(req, t.address(mapping.SpaceReq, r), r.About+", and be answered", req)
	if r.Accepted != "" {
		t.asks(req, "req", "answer."+name)
	} else {
		t.asks(req, "req", pubAck)
	}
}

// command is the channel that programs serve.
func (t *table) command() {
	t.channel("cmd", parametrized(t.subjects.Command(anyThing, anyID), "action"), "a command to execute: reply with the response; programs that serve the same action share a queue group", "cmd")
	t.answers = append(t.answers, handlerReply, handlerError)
	t.operation("cmd", "receive", "cmd", object{
		{"bindings", object{{"nats", object{{"queue", "handlers"}, {"bindingVersion", "0.1.0"}}}}},
		{"reply", reply(handlerReply, handlerError)},
	})
}

// dead adds the dead letters of a row. Those of topics and subjects that are no channel's have other
// tokens after the Thing.
func (t *table) dead(r mapping.Route) {
	space, message := mapping.SpaceDeadUp, "dead.up"
	if r.Direction == mapping.Down {
		space, message = mapping.SpaceDeadDown, "dead.down"
	}
	key := "dead." + string(r.Channel)
	t.channel(key, t.address(space, r), "dead letters of "+string(r.Channel)+", stored in "+t.subjects.Name("DEAD"), message)
	t.receives(key, "dead")
}

// state adds a bucket.
func (t *table) state(bucket, name, message, about string) {
	key := "state." + name
	t.channel(key, "$KV."+t.subjects.Name(bucket)+".{thing}", about, message)
	t.receives(key, "state")
}

func (t *table) channel(key, address, about, message string) {
	c := object{
		{"address", address}, {"description", about},
		{"servers", []any{object{{"$ref", "#/servers/nats"}}}},
		{"messages", object{{message, ref("messages", message)}}},
	}
	parameters := object{}
	for _, name := range []string{"thing", "id", "type", "action"} {
		if strings.Contains(address, "{"+name+"}") {
			parameters = parameters.with(name, ref("parameters", name))
		}
	}
	t.channels = t.channels.with(key, c.with("parameters", parameters))
}

// asks adds an operation that sends and is answered, or gets an error. An up subject's error is
// JetStream's own: no stream for the Thing, or a full one.
func (t *table) asks(key, tag, answer string) {
	t.answers = append(t.answers, answer)
	answers := []string{answer}
	if tag == "req" {
		answers = append(answers, failure)
	}
	t.operation(key, "send", tag, object{{"reply", reply(answers...)}})
}

func (t *table) receives(key, tag string) { t.operation(key, "receive", tag, nil) }

func (t *table) operation(key, action, tag string, more object) {
	o := object{
		{"action", action}, {"channel", object{{"$ref", "#/channels/" + key}}},
		{"summary", t.summary(key)}, {"tags", []any{object{{"name", tag}}}},
	}
	t.operations = t.operations.with(action+"."+key, append(o, more...))
}

// summary is the first part of the channel's description.
func (t *table) summary(key string) string {
	channel, _ := t.channels.get(key).(object)
	about, _ := channel.get("description").(string)
	about, _, _ = strings.Cut(about, ";")
	return about
}

func reply(messages ...string) object {
	var list []any
	for _, m := range messages {
		list = append(list, object{{"$ref", "#/channels/" + inbox + "/messages/" + m}})
	}
	return object{{"channel", object{{"$ref", "#/channels/" + inbox}}}, {"messages", list}}
}

// finish adds the inbox with all answers.
func (t *table) finish() {
	list, seen := object{}, map[string]bool{}
	for _, m := range append(t.answers, failure) {
		if !seen[m] {
			seen[m] = true
			list = list.with(m, ref("messages", m))
		}
	}
	t.channels = t.channels.with(inbox, object{
		{"address", nil}, {"description", "answers: the subject is the reply subject of the request, an inbox of whoever asks"},
		{"servers", []any{object{{"$ref", "#/servers/nats"}}}},
		{"messages", list},
	})
}
