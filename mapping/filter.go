package mapping

import "strings"

// Filter is one MQTT subscription of a Thing.
type Filter struct {
	Topic string
	// NoLocal asks the broker not to loop back what this client publishes. It is set where the
	// Thing's own publishes match the filter.
	NoLocal bool
}

// Filters returns the subscriptions that a Thing needs: the 13 of the protocol page, in its order,
// or 8 wider ones for brokers that limit how many a client may have. Both sets are disjoint, so a
// message is never delivered twice.
func Filters(t Thing, compact bool) []Filter {
	name := string(t)
	var out []Filter
	if compact {
		for _, tail := range []string{"shadow/update/#", "jobs/notify", "jobs/notify-next", "jobs/+/accepted", "jobs/+/rejected", "jobs/+/+/accepted", "jobs/+/+/rejected"} {
			out = append(out, Filter{"$emqx/things/" + name + "/" + tail, strings.HasPrefix(tail, "shadow")})
		}
		return append(out, Filter{"$emqx/commands/things/" + name + "/executions/+/request", false})
	}
	for _, c := range pageOrder {
		p := c.Route().pattern()
		out = append(out, Filter{p.topic(name, "+"), c == ShadowDesired})
	}
	return out
}

// pageOrder is the order of "Required Subscriptions" on the protocol page.
var pageOrder = []Channel{
	ShadowDelta, ShadowDesired, JobsNotify, JobsNotifyNext,
	JobsGetAccepted, JobsGetRejected, JobsStartNextAccepted, JobsStartNextRejected,
	JobGetAccepted, JobGetRejected, JobUpdateAccepted, JobUpdateRejected, CommandRequest,
}
