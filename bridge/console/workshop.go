package console

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/bridge/sightings"
	"fleetbridge/internal/explain"
	"fleetbridge/mapping"
)

var workshopEndpoints = []endpoint{
	{method: "GET", path: "trace", role: viewer, stored: true, query: []string{"q"}, about: "What became of one message, as fleetbridge trace says it: q is the id of a command's execution, a job, a dead letter, a message or a question, or a traceparent. " +
		"place says where a stored message is: waits, came, dead (seq is the letter's id), open, answered or leased. For a message that was seen live, it is the outcome.",
		sample: `{"found":true,"verdict":"The command of pump-08 was answered SUCCEEDED, 12 s ago, and the broker has the answer.","steps":[{"at":"…","source":"stored","place":"came","text":"came from the cloud","thing":"pump-08","token":"pump-08","channel":"command.request","id":"9f…","stream":"FLEETS_DOWN","seq":5512,"bytes":88,"payload":"{…}"},{"at":"…","source":"live","place":"called","text":"called fleets.cmd.pump-08.setSpeed","thing":"pump-08","token":"pump-08","channel":"command.request","id":"9f…","tookMs":3.1,"bytes":0,"payload":""}],"notes":["…"]}`,
		answer: (*Console).trace},
	{method: "GET", path: "routes", role: viewer, query: []string{"at"}, about: "The channels, as fleetbridge explain --json says it; at is a topic, a subject or a channel's name.",
		sample: `{"routes":[{"name":"event","about":"…","direction":"up","topic":"$emqx/things/{t}/events/{type}","store":"fleets.up.{t}.events.{type}","schema":"event","rules":["…"]}]}`,
		answer: (*Console).explain},
	{method: "GET", path: "schemas/{channel}", role: viewer, about: "A channel's JSON Schema, and what it asks for in words. A Thing's own schemas are not in it; validate checks them, too.",
		sample: `{"channel":"event","schema":{"type":"object"},"rules":["…"]}`,
		answer: (*Console).schema},
	{method: "POST", path: "validate", role: viewer, about: "Check a payload as the bridge does, and send nothing. at is a channel's name, a topic or a subject; If at names no Thing, thing, a token, can name one, whose own schemas are then checked, too.",
		body:   `{"at":"event","thing":"pump-07","payload":"{…}"}`,
		sample: `{"ok":false,"schema":"event","details":[{"pointer":"/severity","message":"…","span":[23,32]}],"warnings":[]}`,
		answer: (*Console).validate},
	{method: "POST", path: "send", role: operator, action: "send", about: "Ask the bridge as a program does, on a subject of req: it checks the payload, and stores it for the cloud or asks the cloud. The answer is the program's; a refusal has its code, message and details.",
		body:   `{"subject":"fleets.req.pump-07.events.hot","payload":"{…}"}`,
		sample: `{"bytes":39,"payload":"{…}"}`,
		answer: (*Console).send},
}

type traceAnswer struct {
	Found   bool     `json:"found"`
	Verdict string   `json:"verdict"`
	Steps   []step   `json:"steps"`
	Notes   []string `json:"notes,omitempty"`
}

// step is one piece of evidence.
type step struct {
	At       time.Time `json:"at"`
	Source   string    `json:"source"` // stored or live
	Place    string    `json:"place"`
	Text     string    `json:"text"`
	Thing    string    `json:"thing,omitempty"`
	Token    string    `json:"token,omitempty"`
	Channel  string    `json:"channel,omitempty"`
	ID       string    `json:"id,omitempty"`
	Stream   string    `json:"stream,omitempty"`
	Sequence uint64    `json:"seq,omitempty"`
	TookMS   float64   `json:"tookMs,omitempty"`
	explain.Payload
}

func (c *Console) trace(q *request) (any, error) {
	id := strings.TrimSpace(q.text("q"))
	if id == "" || len(id) > 300 {
		return nil, refuse(http.StatusBadRequest, "q is missing or too long: give the id of a command, a job, a dead letter or a message, or a traceparent")
	}
	f, err := c.finder()
	if err != nil {
		return nil, err
	}
	search, err := f.Find(q.Context(), id)
	if err != nil {
		return nil, err
	}
	v := &explain.Verdict{ID: id, Now: time.Now(), Search: search, Seen: explain.Seen(c.gateway.Recorder().All(), id),
		Why: func(t mapping.Thing) string { return f.Troubled(q.Context(), t) }}
	out := traceAnswer{Steps: []step{}}
	for _, found := range search.Found {
		a := found.Address
		out.Steps = append(out.Steps, step{At: found.At.UTC(), Source: "stored", Place: string(found.Place), Text: explain.FoundAs(found), Thing: string(a.Thing),
			Channel: string(a.Channel), ID: a.ID, Stream: found.Stream, Sequence: found.Sequence, Payload: newPayload(found.Payload, false)})
	}
	for _, r := range v.Seen {
		out.Steps = append(out.Steps, step{At: r.At.UTC(), Source: "live", Place: string(r.Outcome), Text: explain.Fate(r), Thing: r.Thing,
			Channel: r.Channel, ID: r.ID, TookMS: r.TookMS, Payload: seenPayload(r)})
	}
	slices.SortStableFunc(out.Steps, func(a, b step) int { return a.At.Compare(b.At) })
	for i := range out.Steps {
		if s := &out.Steps[i]; s.Thing != "" {
			s.Token = mapping.Token(s.Thing)
		}
	}
	for _, stream := range search.Left {
		out.Notes = append(out.Notes, "of "+stream+" only the newest messages were looked at")
	}
	out.Notes = append(out.Notes, "what passed live is known only while somebody looks at the tail, and for ten minutes after that")
	out.Verdict, out.Found = v.Sentence()
	return out, nil
}

func seenPayload(r *sightings.Record) explain.Payload {
	return explain.Payload{Bytes: r.Bytes, Cut: r.Cut, Text: r.Payload, Base64: r.Base64}
}

type routesAnswer struct {
	Routes []explain.Entry `json:"routes"`
}

// explain answers routes.
func (c *Console) explain(q *request) (any, error) {
	subjects, err := mapping.NewSubjects(c.gateway.Config().NATS.Prefix)
	if err != nil {
		return nil, err
	}
	found := explain.Everything()
	if at := q.text("at"); at != "" {
		if found, err = explain.Find(subjects, at); err != nil {
			return nil, refuse(http.StatusBadRequest, "at: %s", err)
		}
	}
	out := routesAnswer{Routes: []explain.Entry{}}
	for _, m := range found {
		out.Routes = append(out.Routes, explain.Describe(subjects, c.gateway.Catalog(), m))
	}
	return out, nil
}

type schemaAnswer struct {
	Channel string          `json:"channel"`
	Schema  json.RawMessage `json:"schema"`
	Rules   []string        `json:"rules"`
}

func (c *Console) schema(q *request) (any, error) {
	channel := q.PathValue("channel")
	text := c.gateway.Catalog().Source(channel)
	if text == nil {
		return nil, refuse(http.StatusNotFound, "there is no schema %q; those that there are: %s", clean(channel), strings.Join(c.gateway.Catalog().Names(), ", "))
	}
	return schemaAnswer{channel, text, append([]string{}, c.gateway.Catalog().Rules(channel)...)}, nil
}

// given is a payload in a request, in one of two members.
type given struct {
	Payload *string `json:"payload"`
	Base64  *string `json:"payloadBase64"`
}

// bytes are the payload; nil: none is given.
func (g given) bytes() ([]byte, error) {
	switch {
	case g.Payload != nil && g.Base64 != nil:
		return nil, refuse(http.StatusBadRequest, "payload and payloadBase64 are both given, keep one")
	case g.Payload != nil:
		return []byte(*g.Payload), nil
	case g.Base64 == nil:
		return nil, nil
	}
	out, err := base64.StdEncoding.DecodeString(*g.Base64)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "payloadBase64: %s", err)
	}
	return append([]byte{}, out...), nil
}

type validateRequest struct {
	At    string `json:"at"`
	Thing string `json:"thing"`
	given
}

type validateAnswer struct {
	OK       bool     `json:"ok"`
	Schema   string   `json:"schema"`
	Details  []detail `json:"details"`
	Warnings []string `json:"warnings"`
}

func (c *Console) validate(q *request) (any, error) {
	var in validateRequest
	if err := q.read(&in); err != nil {
		return nil, err
	}
	text, err := in.bytes()
	if err != nil {
		return nil, err
	}
	targets, err := explain.FindTargets(c.gateway.Catalog(), in.At, c.gateway.Config().NATS.Prefix)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "at: %s", err)
	}
	v := explain.Validation{Target: explain.Choose(targets, text), Catalog: c.gateway.Catalog()}
	var thing mapping.Thing
	if v.Address != nil {
		thing = v.Address.Thing
	} else if in.Thing != "" {
		if thing, err = parseToken(in.Thing); err != nil {
			return nil, refuse(http.StatusBadRequest, "thing: %s", err)
		}
	}
	v.Own = c.gateway.Schemas(thing)
	details, err := v.Check(text)
	if err != nil {
		return nil, err
	}
	out := validateAnswer{OK: len(details) == 0, Schema: v.Schema, Details: append([]detail{}, spans(text, details)...), Warnings: []string{}}
	if warning := v.Warning(text); warning != "" && out.OK {
		out.Warnings = append(out.Warnings, warning)
	}
	return out, nil
}

type sendRequest struct {
	Subject string `json:"subject"`
	given
}

// send asks on a subject of programs and says in the log who did.
func (c *Console) send(q *request) (any, error) {
	var in sendRequest
	if err := q.read(&in); err != nil {
		return nil, err
	}
	payload, err := in.bytes()
	if err != nil {
		return nil, err
	}
	nc, subjects, err := c.gateway.NATS()
	if err != nil {
		return nil, err
	}
	if _, err := subjects.ParseShadowGet(in.Subject); err != nil {
		if space, _, err := subjects.Parse(in.Subject); err != nil || space != mapping.SpaceReq {
			return nil, refuse(http.StatusBadRequest, "subject: %q is none of %s that a program can ask on; fleetbridge explain lists them", clean(in.Subject), subjects.Space(mapping.SpaceReq))
		}
	}
	question := &nats.Msg{Subject: in.Subject, Data: payload, Header: nats.Header{}}
	question.Header.Set(wire.HeaderTimeout, sendTime.String())
	answer, err := nc.RequestMsgWithContext(q.Context(), question)
	refused := c.refusal(payload, answer, err)
	code := http.StatusOK
	if refused != nil {
		code = refused.Code
	}
	c.log.Info("a message was sent from the console", "subject", in.Subject, "bytes", len(payload), "code", code, "role", q.session.role.String(), "login", q.session.id)
	if refused != nil {
		return nil, refused
	}
	return newPayload(answer.Data, true), nil
}

// sendTime is how long the bridge may wait for the cloud, so that it can say itself that there was no answer.
const sendTime = answerTime * 4 / 5

// refusal is why a question was not answered as somebody wished; nil: it was.
func (c *Console) refusal(payload []byte, answer *nats.Msg, err error) *failure {
	if err != nil {
		return refuse(http.StatusServiceUnavailable, "the bridge does not answer: %s", err)
	}
	code := answer.Header.Get(micro.ErrorCodeHeader)
	if code == "" {
		return nil
	}
	said := bridge.RequestError{}
	if json.Unmarshal(answer.Data, &said) != nil || said.Code < 400 || said.Code > 599 {
		return refuse(http.StatusBadGateway, "%s %s", code, answer.Header.Get(micro.ErrorHeader))
	}
	return &failure{said.Code, said.Message, spans(payload, said.Details)}
}
