package mapping

import (
	"errors"
	"strings"
	"testing"
)

// spellings is the contract's subject table: every channel in both spellings.
var spellings = []struct {
	address Address
	topic   string
	subject string
}{
	{Address{"pump-07", ShadowReport, ""}, "$emqx/things/pump-07/shadow/update", "fleets.up.pump-07.shadow.update"},
	{Address{"pump-07", ShadowDesired, ""}, "$emqx/things/pump-07/shadow/update", "fleets.down.pump-07.shadow.update"},
	{Address{"pump-07", ShadowDelta, ""}, "$emqx/things/pump-07/shadow/update/delta", "fleets.down.pump-07.shadow.update.delta"},
	{Address{"pump-07", Event, "dryRun"}, "$emqx/things/pump-07/events/dryRun", "fleets.up.pump-07.events.dryRun"},
	{Address{"a b", Event, "x.y"}, "$emqx/things/a b/events/x.y", "fleets.up.a=20b.events.x=2Ey"},
	{Address{"pump-07", CommandRequest, "7f0c"}, "$emqx/commands/things/pump-07/executions/7f0c/request", "fleets.down.pump-07.commands.7f0c.request"},
	{Address{"pump-07", CommandResponse, "7f0c"}, "$emqx/commands/things/pump-07/executions/7f0c/response", "fleets.up.pump-07.commands.7f0c.response"},
	{Address{"pump-07", JobsNotify, ""}, "$emqx/things/pump-07/jobs/notify", "fleets.down.pump-07.jobs.notify"},
	{Address{"pump-07", JobsNotifyNext, ""}, "$emqx/things/pump-07/jobs/notify-next", "fleets.down.pump-07.jobs.notify-next"},
	{Address{"pump-07", JobsGet, ""}, "$emqx/things/pump-07/jobs/get", "fleets.up.pump-07.jobs.get"},
	{Address{"pump-07", JobsGetAccepted, ""}, "$emqx/things/pump-07/jobs/get/accepted", "fleets.down.pump-07.jobs.get.accepted"},
	{Address{"pump-07", JobsGetRejected, ""}, "$emqx/things/pump-07/jobs/get/rejected", "fleets.down.pump-07.jobs.get.rejected"},
	{Address{"pump-07", JobsStartNext, ""}, "$emqx/things/pump-07/jobs/start-next", "fleets.up.pump-07.jobs.start-next"},
	{Address{"pump-07", JobsStartNextAccepted, ""}, "$emqx/things/pump-07/jobs/start-next/accepted", "fleets.down.pump-07.jobs.start-next.accepted"},
	{Address{"pump-07", JobsStartNextRejected, ""}, "$emqx/things/pump-07/jobs/start-next/rejected", "fleets.down.pump-07.jobs.start-next.rejected"},
	{Address{"pump-07", JobGet, "a3c1"}, "$emqx/things/pump-07/jobs/a3c1/get", "fleets.up.pump-07.jobs.a3c1.get"},
	{Address{"pump-07", JobGetAccepted, "a3c1"}, "$emqx/things/pump-07/jobs/a3c1/get/accepted", "fleets.down.pump-07.jobs.a3c1.get.accepted"},
	{Address{"pump-07", JobGetRejected, "a3c1"}, "$emqx/things/pump-07/jobs/a3c1/get/rejected", "fleets.down.pump-07.jobs.a3c1.get.rejected"},
	{Address{"pump-07", JobUpdate, "a3c1"}, "$emqx/things/pump-07/jobs/a3c1/update", "fleets.up.pump-07.jobs.a3c1.update"},
	{Address{"pump-07", JobUpdateAccepted, "a3c1"}, "$emqx/things/pump-07/jobs/a3c1/update/accepted", "fleets.down.pump-07.jobs.a3c1.update.accepted"},
	{Address{"pump-07", JobUpdateRejected, "a3c1"}, "$emqx/things/pump-07/jobs/a3c1/update/rejected", "fleets.down.pump-07.jobs.a3c1.update.rejected"},
	// Ids that look like levels of the tree, and Things that look like its roots.
	{Address{"jobs", JobGet, "get"}, "$emqx/things/jobs/jobs/get/get", "fleets.up.jobs.jobs.get.get"},
	{Address{"shadow", JobUpdate, "start-next"}, "$emqx/things/shadow/jobs/start-next/update", "fleets.up.shadow.jobs.start-next.update"},
	{Address{"t", JobGetAccepted, "notify"}, "$emqx/things/t/jobs/notify/get/accepted", "fleets.down.t.jobs.notify.get.accepted"},
	{Address{"t", JobUpdateAccepted, "get"}, "$emqx/things/t/jobs/get/update/accepted", "fleets.down.t.jobs.get.update.accepted"},
	{Address{"executions", CommandRequest, "request"}, "$emqx/commands/things/executions/executions/request/request", "fleets.down.executions.commands.request.request"},
}

func subjects(t testing.TB) Subjects {
	t.Helper()
	s, err := NewSubjects("fleets")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryChannelInBothSpellingsBothWays(t *testing.T) {
	s := subjects(t)
	covered := map[Channel]bool{}
	for _, c := range spellings {
		d := c.address.Route().Direction
		covered[c.address.Channel] = true
		if got := c.address.Topic(); got != c.topic {
			t.Errorf("%v prints topic %q, want %q", c.address, got, c.topic)
		}
		if got, err := ParseTopic(d, c.topic); err != nil || got != c.address {
			t.Errorf("topic %q parses as %v, %v, want %v", c.topic, got, err, c.address)
		}
		space := Space(d.String())
		if got := s.Print(space, c.address); got != c.subject {
			t.Errorf("%v prints subject %q, want %q", c.address, got, c.subject)
		}
		if sp, got, err := s.Parse(c.subject); err != nil || got != c.address || sp != space {
			t.Errorf("subject %q parses as %s %v, %v, want %v", c.subject, sp, got, err, c.address)
		}
	}
	for _, r := range Routes() {
		if !covered[r.Channel] {
			t.Errorf("channel %s stands in no spelling", r.Channel)
		}
	}
}

func TestRequestAndDeadLetterSubjects(t *testing.T) {
	s := subjects(t)
	a := Address{"a b", JobUpdate, "j.1"}
	for space, subject := range map[Space]string{
		SpaceReq:    "fleets.req.a=20b.jobs.j=2E1.update",
		SpaceDeadUp: "fleets.dead.up.a=20b.jobs.j=2E1.update",
	} {
		if got := s.Print(space, a); got != subject {
			t.Errorf("%s: got %q, want %q", space, got, subject)
		}
		if sp, got, err := s.Parse(subject); err != nil || sp != space || got != a {
			t.Errorf("%q parses as %s %v, %v", subject, sp, got, err)
		}
	}
	if got := s.Command("a b", "set.x"); got != "fleets.cmd.a=20b.set=2Ex" {
		t.Error(got)
	}
	if got := s.Service(JobUpdate.Route()); got != "fleets.req.*.jobs.*.update" {
		t.Error(got)
	}
	if got := s.Name("DOWN"); got != "FLEETS_DOWN" {
		t.Error(got)
	}
}

func TestStrayTopics(t *testing.T) {
	for topic, want := range map[string]error{
		"$emqx/things/t/jobs/get":                                   ErrOwnEcho,
		"$emqx/things/t/jobs/x/update":                              ErrOwnEcho,
		"$emqx/things/t/jobs/get/get":                               ErrOwnEcho,
		"$emqx/things/t/events/boot":                                ErrOwnEcho,
		"$emqx/commands/things/t/executions/x/response":             ErrOwnEcho,
		"$emqx/things/t/jobs/x/accepted":                            ErrNoRoute,
		"$emqx/things/t/shadow/update/accepted":                     ErrReportAnswer,
		"$emqx/things/t/shadow/update/rejected":                     ErrReportAnswer,
		"$emqx/things/t/shadow/update/accepted/x":                   ErrNoRoute,
		"$emqx/commands/things/t/shadow/update/accepted":            ErrNoRoute,
		"$emqx/things/t/shadow":                                     ErrNoRoute,
		"$emqx/things/t":                                            ErrNoRoute,
		"$emqx/things/t/":                                           ErrNoRoute,
		"$emqx/things/t/executions/x/request":                       ErrNoRoute,
		"$emqx/things/t/commands/x/request":                         ErrNoRoute,
		"$emqx/commands/things/t/commands/x/request":                ErrNoRoute,
		"$emqx/commands/things/t/shadow/update/delta":               ErrNoRoute,
		"$emqx/commands/things/t/executions/x/y/request":            ErrNoRoute,
		"$emqx/Things/t/shadow/update":                              ErrNoRoute,
		"fleets/x":                                                  ErrNoRoute,
		"":                                                          ErrNoRoute,
		"$emqx/commands/things/t/executions//request":               nil,
		"$emqx/things//shadow/update":                               nil,
		"$emqx/things/" + strings.Repeat("x", 256) + "/jobs/notify": nil,
	} {
		a, err := ParseTopic(Down, topic)
		if err == nil || want != nil && !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), "topic") {
			t.Errorf("ParseTopic(%q) = %v, %v, want %v", topic, a, err, want)
		}
	}
	if got := StrayTail("t.1", "$emqx/things/t.1/jobs//x y"); got != "t=2E1.jobs.=20.x=20y" {
		t.Error(got)
	}
}

func TestStraySubjects(t *testing.T) {
	s := subjects(t)
	for _, subject := range []string{
		"", "fleets", "fleets.", "fleets.up", "fleets.up.t", "fleets.up.t.", "fleets.side.t.shadow.update",
		"other.up.t.shadow.update", "fleets.up.t.shadow", "fleets.up.t.shadow.update.delta", "fleets.down.t.events.x",
		"fleets.up.t.events", "fleets.up.t.events.a.b", "fleets.up.t.events.a=2e", "fleets.up.a=61.events.x",
		"fleets.up.a=2Fb.events.x", "fleets.up.t.events.a=2Bb", "fleets.dead.t.shadow.update",
	} {
		if sp, a, err := s.Parse(subject); err == nil {
			t.Errorf("%q parsed as %s %v", subject, sp, a)
		}
	}
}

func TestPrefixes(t *testing.T) {
	for _, prefix := range []string{"fleets", "site-1.fleets", "A_b"} {
		if _, err := NewSubjects(prefix); err != nil {
			t.Error(err)
		}
	}
	for _, prefix := range []string{"", "a.", ".a", "a b", "a.*", "a.>", "ü", "a=2E"} {
		if _, err := NewSubjects(prefix); err == nil {
			t.Errorf("prefix %q passed", prefix)
		}
	}
}

// The page's own list, spelled out.
func TestThirteenFilters(t *testing.T) {
	want := strings.Fields(`
$emqx/things/T/shadow/update/delta
$emqx/things/T/shadow/update
$emqx/things/T/jobs/notify
$emqx/things/T/jobs/notify-next
$emqx/things/T/jobs/get/accepted
$emqx/things/T/jobs/get/rejected
$emqx/things/T/jobs/start-next/accepted
$emqx/things/T/jobs/start-next/rejected
$emqx/things/T/jobs/+/get/accepted
$emqx/things/T/jobs/+/get/rejected
$emqx/things/T/jobs/+/update/accepted
$emqx/things/T/jobs/+/update/rejected
$emqx/commands/things/T/executions/+/request`)
	got := Filters("T", false)
	if len(got) != len(want) {
		t.Fatalf("%d filters, want %d", len(got), len(want))
	}
	for i, f := range got {
		if f.Topic != want[i] || f.NoLocal != (f.Topic == "$emqx/things/T/shadow/update") {
			t.Errorf("filter %d is %+v, want %s", i, f, want[i])
		}
	}
}

// Trap T19: a broker may deliver once for each filter that matches.
func TestEveryDownwardTopicMatchesOneFilter(t *testing.T) {
	for _, compact := range []bool{false, true} {
		filters := Filters("pump-07", compact)
		if compact && len(filters) != 8 {
			t.Errorf("%d compact filters, want 8", len(filters))
		}
		for _, c := range spellings {
			n := 0
			for _, f := range filters {
				if topicMatches(f.Topic, c.topic) {
					n++
				}
			}
			down := c.address.Thing == "pump-07" && (c.address.Route().Direction == Down || c.address.Channel == ShadowReport)
			if down && n != 1 || !down && n != 0 {
				t.Errorf("compact %v: %q matches %d filters", compact, c.topic, n)
			}
		}
	}
}

func topicMatches(filter, topic string) bool {
	f, l := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		if level == "#" {
			return true
		}
		if i >= len(l) || level != "+" && level != l[i] {
			return false
		}
	}
	return len(f) == len(l)
}

func FuzzTopic(f *testing.F) {
	for _, c := range spellings {
		f.Add(c.topic, c.address.Route().Direction == Up)
	}
	f.Fuzz(func(t *testing.T, topic string, up bool) {
		d := Down
		if up {
			d = Up
		}
		a, err := ParseTopic(d, topic)
		if err != nil {
			return
		}
		if a.Topic() != topic || a.Route().Direction != d {
			t.Fatalf("%q parses as %v, which prints %q", topic, a, a.Topic())
		}
		s := subjects(t)
		if _, back, err := s.Parse(s.Print(Space(d.String()), a)); err != nil || back != a {
			t.Fatalf("%v does not survive its subject: %v, %v", a, back, err)
		}
	})
}

func FuzzSubject(f *testing.F) {
	for _, c := range spellings {
		f.Add(c.subject)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		s := subjects(t)
		sp, a, err := s.Parse(subject)
		if err != nil {
			return
		}
		if got := s.Print(sp, a); got != subject {
			t.Fatalf("%q parses as %v, which prints %q", subject, a, got)
		}
		if back, err := ParseTopic(sp.Direction(), a.Topic()); err != nil || back != a {
			t.Fatalf("%v does not survive its topic: %v, %v", a, back, err)
		}
	})
}
