package asyncapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// Version is that of the channels, not of the program: additions raise its second number, what breaks a
// program its first.
const Version = "1.0.0"

// Options of a document. The zero value describes every bridge.
type Options struct {
	Subjects mapping.Subjects
	// Things limits the parameter thing to these; empty: any.
	Things []mapping.Thing
	Host   string // host:port of the NATS server; default 127.0.0.1:4222
	Secure bool   // it speaks TLS
}

// Document is an AsyncAPI document, always the same for the same options.
type Document struct{ root object }

// New makes the document from the route table and the schemas. An error is a defect of these.
func New(o Options) (Document, error) {
	catalog, err := schemas.New(schemas.Options{})
	if err != nil {
		return Document{}, err
	}
	payloads, err := payloads(catalog)
	if err != nil {
		return Document{}, err
	}
	if o.Host == "" {
		o.Host = "127.0.0.1:4222"
	}
	protocol := "nats"
	if o.Secure {
		protocol = "natss"
	}
	t := newTable(o)
	return Document{object{
		{"asyncapi", "3.0.0"},
		{"id", "urn:fleetbridge:" + strings.ReplaceAll(o.Subjects.Prefix(), ".", ":")},
		{"info", object{
			{"title", "fleetbridge"},
			{"version", Version},
			{"description", oneLine(description)},
			{"license", object{{"name", "Apache-2.0"}, {"url", "https://www.apache.org/licenses/LICENSE-2.0"}}},
			{"tags", tags()},
		}},
		{"defaultContentType", contentJSON},
		{"servers", object{{"nats", object{
			{"host", o.Host}, {"protocol", protocol},
			{"description", "The NATS server of the gateway, embedded in the bridge or not, with JetStream."},
			{"security", []any{ref("securitySchemes", "password"), ref("securitySchemes", "nkey")}},
		}}}},
		{"channels", t.channels},
		{"operations", t.operations},
		{"components", object{
			{"messages", messages()},
			{"schemas", payloads},
			{"parameters", parameters(o.Things)},
			{"securitySchemes", object{
				{"password", object{{"type", "userPassword"}, {"description", "A user of local.users with a password. Without local.users the embedded server asks for none."}}},
				{"nkey", object{{"type", "asymmetricEncryption"}, {"description", "A user of local.users with an nkey."}}},
			}},
		}},
	}}, nil
}

const description = `
Every channel that programs on a gateway share with the bridge, which holds the MQTT session of each EMQX Fleets Thing.
The document takes the side of a program: it sends what goes up to the cloud and what it asks, and receives what comes
down, commands to serve, and dead letters. Subjects are NATS subjects; a parameter is one token of it.
Messages on up are stored before the PubAck; messages on down are stored, too, and can be replayed from the stream
that the channel names.`

func tags() []any {
	var out []any
	for _, t := range [][2]string{
		{"up", "to the cloud: stored and forwarded"}, {"req", "asked and answered"}, {"down", "from the cloud: stored, live and for replay"},
		{"cmd", "commands to serve"}, {"dead", "dead letters: what can never go on"}, {"state", "what can be read at any time"},
	} {
		out = append(out, object{{"name", t[0]}, {"description", t[1]}})
	}
	return out
}

// parameters describes the tokens of subjects.
func parameters(things []mapping.Thing) object {
	const token = "One subject token: the name's bytes in UTF-8, each outside A-Z a-z 0-9 _ - written =XX with two upper-case hex digits; " +
		"a needless escape is refused."
	thing := object{{"description", "The Thing's name, up to 255 bytes without / + # and control characters. " + token}}
	if len(things) > 0 {
		var enum []any
		for _, t := range things {
			enum = append(enum, mapping.Token(string(t)))
		}
		thing = thing.with("enum", enum)
	} else {
		thing = thing.with("examples", []any{"pump-07", mapping.Token("com.acme.pump 7")})
	}
	one := func(about string, examples ...any) object {
		return object{{"description", about + ", up to 256 bytes without / + # and control characters. " + token}, {"examples", examples}}
	}
	return object{
		{"thing", thing},
		{"id", one("An execution's or a job's id", "8f14e45f-ceea-467f-a8f6-3c9d1f6b7a20")},
		{"type", one("The event's type, the same as eventType in the payload", "boot", mapping.Token("door.opened"))},
		{"action", one("The command's action", "setTemperature")},
	}
}

// JSON prints the document, indented.
func (d Document) JSON() ([]byte, error) {
	text, err := compact(d.root)
	if err != nil {
		return nil, fmt.Errorf("AsyncAPI document: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// YAML prints the document.
func (d Document) YAML() ([]byte, error) {
	var out bytes.Buffer
	in := yaml.NewEncoder(&out)
	in.SetIndent(2)
	if err := in.Encode(d.root); err != nil {
		return nil, fmt.Errorf("AsyncAPI document: %w", err)
	}
	return out.Bytes(), in.Close()
}
