package schemas

import (
	"slices"
	"strings"
	"testing"
)

func TestRules(t *testing.T) {
	c := catalog(t)
	for name, want := range map[string][]string{
		"shadow.report": {
			"payload: an object, no other members (allowed: state, clientToken, version)",
			"/state: required, an object, no other members (allowed: reported). The part of the shadow that the device owns.",
			"/state/reported: required, an object. The device's current state, flat or nested.",
			"/clientToken: optional, a string of at most 64 characters. An arbitrary string, echoed back in the response for correlation.",
			"/version: optional, an integer of 0 or more. The shadow version for optimistic locking: if it does not match the server's, the update is rejected. 0 or nothing: no check.",
		},
		"command.response": {
			"payload: an object, no other members (allowed: status, result)",
			"/status: required, one of SUCCEEDED, FAILED, REJECTED, TIMED_OUT, CANCELED. How the execution ended.",
			"/result: optional, an object. Any JSON object with output data; the place for error texts, too.",
		},
	} {
		if got := c.Rules(name); !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s", name, strings.Join(got, "\n"))
		}
	}
	for name, want := range map[string]string{
		"jobs.start-next":          "/stepTimeoutInMinutes: optional, an integer from 1 to 10080.",
		"jobs.get.accepted":        "/queuedJobs/*/jobId: required, a string.",
		"jobs.start-next.accepted": "/execution/jobId: required when /execution/jobDocument is there.",
		"command.request":          "/params: optional, an object or null.",
	} {
		if rules := c.Rules(name); !slices.ContainsFunc(rules, func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("%s: no %q in\n%s", name, want, strings.Join(rules, "\n"))
		}
	}
}

// The rules of a channel name every member of its schema.
func TestRulesAreComplete(t *testing.T) {
	c := catalog(t)
	for _, name := range c.Names() {
		rules := strings.Join(c.Rules(name), "\n")
		for member := range c.channels[name].keywords["properties"].(map[string]any) {
			if !strings.Contains(rules, "\n/"+member+": ") {
				t.Errorf("%s: no rule for %s", name, member)
			}
		}
	}
}
