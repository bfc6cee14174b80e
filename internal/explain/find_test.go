package explain

import (
	"strings"
	"testing"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// FuzzFind looks for panics, and for an address that is not spelled as it was asked for.
func FuzzFind(f *testing.F) {
	for _, seed := range []string{
		"$emqx/things/pump-07/shadow/update", "$emqx/things/{t}/jobs/+/get/accepted", "$emqx/things/+/#", "$emqx/things/a#/jobs/+",
		"$emqx/commands/things/a b/executions/e/request", "fleets.up.a=2Eb.events.x", "fleets.req.*.shadow.get", "fleets.cmd.a.b",
		"fleets.dead.up.a.jobs.get", "fleets.>", "fleets.dead", "event", "shadow.get",
	} {
		f.Add(seed)
	}
	subjects, err := mapping.NewSubjects("fleets")
	if err != nil {
		f.Fatal(err)
	}
	catalog, err := schemas.New(schemas.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		found, err := Find(subjects, text)
		if (err == nil) != (len(found) > 0) {
			t.Fatalf("%q: %d matches, %v", text, len(found), err)
		}
		for _, m := range found {
			e := Describe(subjects, catalog, m)
			if strings.Contains(e.Text(), "fleetbridge--any") && !strings.Contains(text, "fleetbridge--any") {
				t.Errorf("%q: a stand-in is shown:\n%s", text, e.Text())
			}
			spelled := []string{e.Topic, e.Store, e.Request, e.Handler, e.Dead}
			if !m.Open() && (isTopic(text) || isSubject(subjects, text)) && !contains(spelled, text) {
				t.Errorf("%q is spelled %q", text, spelled)
			}
		}
	})
}

// contains also forgives wildcards and placeholders, which may stand where a name could.
func contains(spelled []string, text string) bool {
	for _, s := range spelled {
		if s == text || strings.ContainsAny(text, "+#*>{") {
			return true
		}
	}
	return false
}
