package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// The reference tables are made from the code: run this package's tests with -update (make docs).
// Without it a table that is stale is a failure.

const docsDir = "../../docs"

func TestDocuments(t *testing.T) {
	for name, text := range map[string]string{
		"configuration.md": configurationDoc(),
		"subjects.md":      subjectsDoc(),
		"metrics.md":       metricsDoc(t),
	} {
		t.Run(name, func(t *testing.T) {
			if *update {
				if err := os.MkdirAll(docsDir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			sameText(t, filepath.Join(docsDir, name), text)
		})
	}
}

// sameText compares a document with what it should be, or writes it.
func sameText(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s is stale (%v): run make docs", path, err)
	}
}

const generated = "<!-- Made from the code by make docs; do not edit. -->\n\n"

func configurationDoc() string {
	var b strings.Builder
	b.WriteString("# Configuration\n\n" + generated +
		"A YAML file, named by `--config`. Unknown keys are refused, and `fleetbridge check` reports every problem at once\n" +
		"with its line. Only `mqtt.server` and `things` are always required; with `nats.url` the Things may be in NATS.\n\n" +
		"- A value may be `${NAME}`: the whole value comes from the environment, and it is an error if NAME is unset there.\n" +
		"- A key that ends in `_file` names a file. For a secret, the content of the file is the secret, without its last newline.\n" +
		"- Paths are relative to the directory of the file that they stand in.\n" +
		"- A duration is a number with `ms`, `s`, `m` or `h`, as `30s` or `1h30m`. A size is a number of bytes, or a number with\n" +
		"  `KiB`, `MiB`, `GiB` or `TiB`.\n" +
		"- A key without a value, or with `null`, has its default.\n" +
		"- A running bridge follows this file and those that it names: [reload.md](reload.md). It refuses a change of a key\n" +
		"  that is marked *restart*. TLS files: [tls.md](tls.md).\n\n" +
		"The least that works:\n\n```yaml\nmqtt: {server: mqtts://broker.example.com}\nthings:\n  - {name: thermostat-001, username: thermostat-001, password_file: thermostat-001.password}\n```\n\n" + typicalConfiguration)
	for _, k := range keys(reflect.TypeFor[Config]()) {
		fmt.Fprintf(&b, "\n## %s\n\n", k.name)
		if k.kind.Kind() != reflect.String { // a key alone: its row says all
			about := sentence(k.doc) + "."
			if k.otherwise != "" {
				about += " " + sentence(k.otherwise) + "."
			}
			if k.fixed {
				about += " Changed by a *restart* only."
			}
			b.WriteString(about + "\n\n")
			k.fixed = false
		}
		b.WriteString("| Key | Type | Default | Meaning |\n|---|---|---|---|\n")
		configurationRows(&b, k, "")
	}
	return b.String()
}

const typicalConfiguration = "A typical one:\n\n```yaml" + `
mqtt: {server: mqtts://broker.example.com:8883, tls: {ca_file: ca.pem}}
fleets: {url: https://fleets.example.com:8443, api_key: "${FLEETS_API_KEY}", api_secret_file: /run/secrets/fleets}
things:
  - {name: thermostat-001, username: thermostat-001, password_file: /run/secrets/thermostat-001, schema_dir: schemas/thermostat}
nats: {embedded: {listen: "127.0.0.1:4222", store_dir: /var/lib/fleetbridge}}
local:
  users:                # without users, every local process may use the bridge
    - {name: hvac, password_file: /run/secrets/hvac, things: [thermostat-001], allow: [report, events, commands, jobs, read]}
` + "```\n"

// configurationRows writes the keys of a section, those of sections in it among them.
func configurationRows(b *strings.Builder, k key, path string) {
	path, inner := join(path, k.name), k.kind
	if inner.Kind() == reflect.Slice && section(inner.Elem()) {
		path, inner = path+"[]", inner.Elem()
	}
	if section(inner) {
		for _, sub := range keys(inner) {
			sub.fixed = sub.fixed || k.fixed
			configurationRows(b, sub, path)
		}
		return
	}
	value := "`" + k.preset + "`"
	switch {
	case k.preset == "":
		value = k.otherwise
	case k.kind.Kind() == reflect.Slice:
		value = "`[" + strings.Join(strings.Fields(k.preset), ", ") + "]`"
	}
	about := cell(sentence(k.doc))
	if k.fixed {
		about += "; *restart*"
	}
	fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", path, typeName(k), value, about)
}

func typeName(k key) string {
	words := "`" + strings.Join(k.oneOf, "`, `") + "`"
	switch {
	case len(k.oneOf) > 0 && k.kind.Kind() == reflect.Slice:
		return "list of " + words
	case len(k.oneOf) > 0:
		return words
	case k.unit != "":
		return k.unit
	case k.kind == durationType:
		return "duration"
	case k.kind == reflect.TypeFor[Size]():
		return "size"
	case k.kind == secretType:
		return "secret"
	case k.kind.Kind() == reflect.Int:
		return "number"
	case k.kind.Kind() == reflect.Bool:
		return "true or false"
	}
	return "text"
}

func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// Every key says what it is for, so that the reference has no gaps.
func TestEveryKeyIsDocumented(t *testing.T) {
	t.Parallel()
	var walk func(reflect.Type, string)
	walk = func(typ reflect.Type, path string) {
		for _, k := range keys(typ) {
			if k.name == "" || k.doc == "" || strings.ContainsAny(k.doc, "|\n") {
				t.Errorf("%s: name %q, doc %q", join(path, k.name), k.name, k.doc)
			}
			inner := k.kind
			if inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if section(inner) {
				walk(inner, join(path, k.name))
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
}

// routeTable has a row for each channel, in both spellings.
func routeTable() string {
	var b strings.Builder
	b.WriteString("| Channel | MQTT topic | local → cloud | cloud → local | |\n|---|---|---|---|---|\n")
	for _, r := range mapping.Routes() {
		up, down := "`fleets.up.{t}."+r.Tail+"`", ""
		if r.Direction == mapping.Down {
			up, down = "", "`fleets.down.{t}."+r.Tail+"`"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", r.Channel, r.Topic, up, down, r.About)
	}
	return b.String()
}

func subjectsDoc() string {
	var b strings.Builder
	b.WriteString("# Topics and subjects\n\n" + generated +
		"The subject is the topic, with `.` for `/`. The second word is the direction.\n\n" +
		"`{t}`, `{id}` and `{type}` stand for one subject token: the bytes of the name. Every byte that is not in `A-Z a-z 0-9 _ -` is\n" +
		"written `=XX`. `fleets` is `nats.prefix`, which you can configure. Every `fleets.up.…` has a twin `fleets.req.…` that is answered:\n" +
		"[requests.md](requests.md). `fleetbridge explain` says more of each.\n\n" + routeTable() +
		"\nSubjects without a topic:\n\n| Subject | |\n|---|---|\n" +
		"| `fleets.req.{t}." + mapping.ShadowGet + "` | ask for the shadow document, from the Fleets HTTP API |\n" +
		"| `fleets.cmd.{t}.{action}` | serve a command |\n" +
		"| `fleets.dead.up.{t}.…`, `fleets.dead.down.{t}.…` | dead letters, stored |\n" +
		"\n## What holds for each channel\n\nMessages up wait in one of two queues, by their class: `FLEETS_UP_CONTROL` or `FLEETS_UP_TELEMETRY`. With `nats.url` these are streams. With\nthe embedded server they are in the bridge's journal, and only PubAcks have these names. A redelivery with the same version or execution is dropped.\n\n| Channel | Class | A redelivery has the same | Expires | Empty payload | Answered on |\n|---|---|---|---|---|---|\n")
	for _, r := range mapping.Routes() {
		expiry, empty, answers := "", "", ""
		if r.Expiry > 0 {
			expiry = shortDuration(r.Expiry)
		}
		if r.EmptyOK {
			empty = "allowed"
		}
		if r.Accepted != "" {
			answers = fmt.Sprintf("`%s`, `%s`", r.Accepted, r.Rejected)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", r.Channel, r.Class(), r.Identity, expiry, empty, answers)
	}
	b.WriteString(headersDoc)
	return b.String()
}

const headersDoc = `
## Headers

What the embedded server does with the headers that a program sends:

| Header | On ` + "`up`" + ` |
|---|---|
| the program's own, which don't begin with ` + "`Nats-`" + ` | left out: the bridge takes the message without them |
| ` + "`traceparent`, `tracestate`" + ` | pass to the cloud as MQTT 5 user properties |
| ` + "`Nats-Msg-Id`" + ` | stored once in two minutes, by subject |
| ` + "`Nats-Expected-Stream`" + ` | as JetStream does |
| ` + "`Nats-Stream`, `Nats-Subject`, `Nats-Sequence`, `Nats-Last-Sequence`, `Nats-Time-Stamp`, `Nats-Num-Pending`, `Nats-Msg-Size`, `Nats-Request-Info`" + ` | left out: NATS puts them on what it delivers, so a program that passes such a message on sends them, too |
| ` + "`Nats-Batch-Id`, `Nats-Batch-Sequence`, `Nats-Batch-Commit`" + ` | left out of a message that came from the bridge (it has ` + "`Fleets-Received`" + `), else refused |
| every other that begins with ` + "`Nats-`" + `, in any case: expected sequences, TTL, rollup, schedule, trace, counter, … | refused: it asks for what is not supported |

On ` + "`req`" + ` the same headers are refused. Of the others the bridge uses ` + "`traceparent`, `tracestate`, `Fleets-Timeout`" + ` and ` + "`Fleets-Worker`" + `. The rest,
` + "`Nats-Msg-Id`" + ` too, has no effect there.

A key is an HTTP token. A value has printable ASCII, blanks and tabs. Each line ends with CR LF. A message has at most 30 lines and 72 KiB of headers. The bridge refuses
everything else: on ` + "`up`" + ` with JetStream's error 400 (10003) in place of the PubAck, on ` + "`req`" + ` with the service error 400. If a publish asks for no answer, the log
names it. The bridge does not take a message whose reply subject is one of its own subjects or one of the server's.

Headers that the bridge writes are printable ASCII. ` + "`%`" + `, every byte beyond ASCII, and a blank at an end are written ` + "`%XX`" + ` as in a URL. JSON bodies have the text as it is.
`

// metricsDoc lists what a scrape returns.
func metricsDoc(t *testing.T) string {
	t.Helper()
	m := testMetrics()
	m.Collect(&queues{})
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("# Metrics\n\n" + generated +
		"`/metrics` of `http.listen`, for Prometheus. Times are in seconds. The usual `go_…` and `process_…` metrics are there too.\n\n" +
		"| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n")
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "fleetbridge_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), cell(f.GetHelp()))
	}
	b.WriteString("\nValues of the labels:\n\n| Label | Values |\n|---|---|\n| `direction` | `up`, `down` |\n| `channel` | ")
	for _, r := range mapping.Routes() {
		fmt.Fprintf(&b, "`%s`, ", r.Channel)
	}
	fmt.Fprintf(&b, "and `%s` for a topic or subject that is no channel's |\n| `outcome` | ", noChannel)
	b.WriteString(list(outcomes[:]) + " |\n| `code` | " + list(bridge.Codes[:]) + " |\n")
	return b.String()
}

func list[T ~string](words []T) string {
	var out []string
	for _, w := range words {
		out = append(out, "`"+string(w)+"`")
	}
	return strings.Join(out, ", ")
}
