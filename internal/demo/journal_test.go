package demo

import (
	"fmt"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/mapping"
)

// sight is what a tap sees.
type sight func(*journal)

func onNATS(subject, reply, payload string, header ...string) sight {
	return func(j *journal) {
		m := nats.NewMsg(subject)
		m.Reply, m.Data = reply, []byte(payload)
		for i := 0; i+1 < len(header); i += 2 {
			m.Header.Set(header[i], header[i+1])
		}
		j.sawNATS(m)
	}
}

func onMQTT(up bool, tail, payload string) sight {
	return func(j *journal) { j.sawMQTT(up, "$emqx/things/thermostat-001/"+tail, []byte(payload)) }
}

func get(version string) sight { return func(j *journal) { j.sawGet(version) } }

// The two sides of a message find each other, whichever tap is first.
func TestPairing(t *testing.T) {
	const up, req, down, dead = "fleets.up.thermostat-001.", "fleets.req.thermostat-001.", "fleets.down.thermostat-001.", "fleets.dead.up.thermostat-001."
	for _, c := range []struct {
		name   string
		sights []sight
		want   []string // the rows, in any order
	}{
		{"a merged report", []sight{
			onNATS(up+"shadow.update", "_INBOX_a.1", `{"state":{"reported":{"x":1}}}`),
			onMQTT(true, "shadow/update", `{"state":{"reported":{"x":1,"y":2}}}`),
		}, []string{`a up report "fleets.up.thermostat-001.shadow.update" "shadow/update" {"state":{"reported":{"x":1}}} {"state":{"reported":{"x":1,"y":2}}}`}},
		{"two reports, the second seen first", []sight{
			onMQTT(true, "shadow/update", `{"state":{"reported":{"x":1}}}`),
			onMQTT(true, "shadow/update", `{"state":{"reported":{"x":1,"y":2}}}`),
			onNATS(up+"shadow.update", "_INBOX_b.1", `{"state":{"reported":{"y":2}}}`),
			onNATS(up+"shadow.update", "_INBOX_a.1", `{"state":{"reported":{"x":1}}}`),
		}, []string{
			`a up report "fleets.up.thermostat-001.shadow.update" "shadow/update" {"state":{"reported":{"x":1}}} {"state":{"reported":{"x":1}}}`,
			`b up report "fleets.up.thermostat-001.shadow.update" "shadow/update" {"state":{"reported":{"y":2}}} {"state":{"reported":{"x":1,"y":2}}}`,
		}},
		{"an event that the bridge stores for a request", []sight{
			onNATS(req+"events.e", "_INBOX_a.1", `{"eventType":"e"}`),
			onNATS(up+"events.e", "_INBOX.x", `{"eventType":"e"}`, "Nats-Msg-Id", "1"),
			onMQTT(true, "events/e", `{"eventType":"e","timestamp":1}`),
		}, []string{`a up event "fleets.req.thermostat-001.events.e" "events/e" {"eventType":"e"} {"eventType":"e","timestamp":1}`}},
		{"a dead letter", []sight{
			onNATS(up+"events.e", "", `{}`),
			onNATS(dead+"events.e", "", `{}`, "Fleets-Error-Code", "schema", "Fleets-Error", "/severity"),
		}, []string{`you up event "fleets.up.thermostat-001.events.e" "" {}  dead letter:fleets.dead.up.thermostat-001.events.e schema:/severity`}},
		{"a dead letter seen first", []sight{
			onNATS(dead+"events.e", "", `{}`, "Fleets-Error-Code", "schema", "Fleets-Error", "/severity"),
			onNATS(up+"events.e", "", `{}`),
		}, []string{`you up event "fleets.up.thermostat-001.events.e" "" {}  dead letter:fleets.dead.up.thermostat-001.events.e schema:/severity`}},
		{"a question and its answer", []sight{
			onMQTT(true, "jobs/get", `{"clientToken":"fb-1"}`),
			onNATS(req+"jobs.get", "_INBOX_a.1", `{"clientToken":"mine"}`),
			onMQTT(false, "jobs/get/accepted", `{"clientToken":"fb-1"}`),
			onNATS("_INBOX_a.1", "", `{"clientToken":"mine"}`),
		}, []string{
			`a up question "fleets.req.thermostat-001.jobs.get" "jobs/get" {"clientToken":"mine"} {"clientToken":"fb-1"}`,
			`a down answer "the reply to the request" "jobs/get/accepted" {"clientToken":"mine"} `,
		}},
		{"the shadow on request", []sight{
			get("7"), onNATS(req+"shadow.get", "_INBOX_a.1", ``), onNATS("_INBOX_a.1", "", `{"version":7}`, "Fleets-Stale", "true"),
		}, []string{
			`a up question "fleets.req.thermostat-001.shadow.get" "GET …/shadow over HTTP"  `,
			`a down answer "the reply to the request" "GET …/shadow over HTTP" {"version":7}  header:Fleets-Stale: true`,
		}},
		{"from the replay and live", []sight{
			func(j *journal) { j.replayed = 1 },
			onMQTT(false, "jobs/notify", `{}`), onNATS(down+"jobs.notify", "", `{}`),
			onNATS(down+"jobs.notify", "", `{}`, "Nats-Sequence", "1"),
		}, []string{`programs down hint "fleets.down.thermostat-001.jobs.notify" "jobs/notify" {} `}},
	} {
		t.Run(c.name, func(t *testing.T) {
			subjects, err := mapping.NewSubjects("fleets")
			if err != nil {
				t.Fatal(err)
			}
			j := newJournal(subjects)
			for _, s := range c.sights {
				s(j)
			}
			var got []string
			for _, r := range j.take(0) {
				if !r.complete() {
					t.Errorf("not complete: %s", spell(r))
				}
				got = append(got, spell(r))
			}
			slices.Sort(got)
			slices.Sort(c.want)
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func spell(r row) string {
	way := "down"
	if r.up {
		way = "up"
	}
	out := fmt.Sprintf("%s %s %s %q %q %s %s", r.who, way, r.what, r.subject, strings.TrimPrefix(shortTopic(r.topic), "…/"), r.payload, r.wire)
	for _, n := range r.notes {
		out += " " + n.label + ":" + n.text
	}
	return out
}

// What is stored while the link is down is printed at once, and again when it is sent.
func TestStoredThenSent(t *testing.T) {
	subjects, err := mapping.NewSubjects("fleets")
	if err != nil {
		t.Fatal(err)
	}
	j := newJournal(subjects)
	onNATS("fleets.up.thermostat-001.events.e", "_INBOX_a.1", `{}`)(j)
	if rows := j.take(time.Hour); len(rows) != 0 {
		t.Errorf("%d rows too early", len(rows))
	}
	if rows := j.take(0); len(rows) != 1 || rows[0].topic != "" {
		t.Errorf("got %+v", rows)
	}
	onMQTT(true, "events/e", `{}`)(j)
	if rows := j.take(time.Hour); len(rows) != 1 || rows[0].subject != fromStore || rows[0].topic == "" {
		t.Errorf("got %+v", rows)
	}
	if rows := j.take(0); len(rows) != 0 || len(j.rows) != 0 {
		t.Errorf("printed twice, or kept: %+v %+v", rows, j.rows)
	}
}

// The sample program can be copied: it imports nothing of this project.
func TestThermostatStandsAlone(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "thermostat.go", nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range f.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") && !strings.HasPrefix(path, "github.com/nats-io/nats.go") || first == "fleetbridge" {
			t.Errorf("thermostat.go imports %s", path)
		}
	}
}
