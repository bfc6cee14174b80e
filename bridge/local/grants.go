package local

import (
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"fleetbridge/mapping"
)

// Each user has an account of its own, in which there is nothing but what its programs subscribe to.
// What it may do reaches into the bridge's account by imports, as exactly as by permissions.
//
// Permissions alone would not do: the server checks the subject that a program publishes on and not
// the reply subject that it sends along, and whoever answers (JetStream, a service, the bridge) publishes
// the answer there with its own rights. Across accounts the server replaces the reply subject by one of
// its own and delivers the answer in the account that asked, so a forged one names a subject that is
// either the user's own or nobody's.

// link is a subject in a user's account and the one in the bridge's account that it stands for.
type link struct{ here, there string }

// same is a subject that is spelled alike in both accounts.
func same(subject string) link { return link{subject, subject} }

// grants is all that a user may do, in the server's terms.
type grants struct {
	subjects mapping.Subjects
	user     User
	pub, sub []string // permissions
	services []link   // requests and publishes that go to the bridge's account
	streams  []link   // messages that come from the bridge's account
}

// grants spells what the user may do. What is not listed is refused.
func (u User) grants(s mapping.Subjects) *grants {
	g := &grants{subjects: s, user: u}
	g.subscribe(u.InboxPrefix() + ".>")
	// Without this import the server would answer for an account that has no JetStream.
	g.services = append(g.services, g.api("INFO"))
	if u.may(AllowReport) || u.may(AllowEvents) || u.may(AllowCommands) || u.may(AllowJobs) {
		g.call(alike(discovery...)...)
	}
	if u.may(AllowCommands) { // a handler may be a NATS service, which its own user can discover
		g.subscribe("$SRV.>")
		g.publish("$SRV.>", u.InboxPrefix()+".>")
	}
	if u.may(AllowRead) {
		g.read()
	}
	for _, t := range u.Things {
		token := mapping.Token(string(t))
		for _, a := range u.allowed() {
			g.allow(a, token)
		}
		if g.whole() {
			g.call(same(s.Prefix()+".up."+token+".>"), same(s.Prefix()+".req."+token+".>"))
		}
	}
	return g
}

// whole tells that the user may send everything up, which is then one import instead of four: they are
// what the start takes its time for.
func (g *grants) whole() bool {
	u := g.user
	return u.may(AllowReport) && u.may(AllowEvents) && u.may(AllowCommands) && u.may(AllowJobs)
}

// upward grants one part of what goes up.
func (g *grants) upward(t, part string) {
	if !g.whole() {
		prefix := g.subjects.Prefix()
		g.call(same(prefix+".up."+t+"."+part+".>"), same(prefix+".req."+t+"."+part+".>"))
	}
}

func (g *grants) publish(subjects ...string)   { g.pub = append(g.pub, subjects...) }
func (g *grants) subscribe(subjects ...string) { g.sub = append(g.sub, subjects...) }

// call lets the user publish and ask; answers come back.
func (g *grants) call(links ...link) {
	for _, l := range links {
		g.publish(l.here)
		g.services = append(g.services, l)
	}
}

// hear lets the user subscribe.
func (g *grants) hear(subjects ...string) {
	for _, s := range subjects {
		g.subscribe(s)
		g.streams = append(g.streams, same(s))
	}
}

func alike(subjects ...string) []link {
	out := make([]link, len(subjects))
	for i, s := range subjects {
		out[i] = same(s)
	}
	return out
}

// allow grants one allowance on one Thing.
func (g *grants) allow(what, t string) {
	prefix := g.subjects.Prefix()
	down := prefix + ".down." + t
	reads := g.user.may(AllowRead) // which has all of down; an import beside it would deliver twice
	switch what {
	case AllowReport:
		g.upward(t, "shadow")
	case AllowEvents:
		g.upward(t, "events")
	case AllowCommands:
		g.upward(t, "commands")
		g.call(same(replySpace(g.subjects) + t + ".>"))
		g.hear(prefix + ".cmd." + t + ".>")
		if !reads {
			g.hear(down + ".commands.>")
		}
	case AllowJobs:
		g.upward(t, "jobs")
		if !reads {
			g.hear(down + ".jobs.>")
		}
	case AllowRead:
		g.hear(down + ".>")
		for _, r := range g.readable() {
			g.call(same("$JS.API.DIRECT.GET." + r.stream + "." + r.of(t)))
		}
	}
}

// readable is a stream of which readers get their own Things' part.
type readable struct{ stream, before, after string }

// of is the part of one Thing.
func (r readable) of(t string) string { return r.before + t + r.after }

func (g *grants) readable() []readable { return readables(g.subjects) }

func readables(s mapping.Subjects) []readable {
	out := []readable{{s.Name(streamDown), s.Prefix() + "." + string(mapping.SpaceDown) + ".", ".>"}}
	for _, bucket := range []string{bucketShadow, bucketStatus} {
		name := s.Name(bucket)
		out = append(out, readable{"KV_" + name, "$KV." + name + ".", ""})
	}
	return out
}

// read grants what does not depend on the Thing. Whatever the subject does not bound goes to the Clerk,
// who looks at it. What names a consumer needs none: the Clerk gives consumers names that nobody else
// can know.
func (g *grants) read() {
	g.publish("$JS.API.INFO")
	g.call(g.api("STREAM.NAMES"))
	for _, r := range g.readable() {
		for _, verb := range []string{
			"STREAM.INFO." + r.stream, "DIRECT.GET." + r.stream, "CONSUMER.CREATE." + r.stream, "CONSUMER.CREATE." + r.stream + ".>",
			"CONSUMER.DURABLE.CREATE." + r.stream + ".*", "CONSUMER.INFO." + r.stream + ".*", "CONSUMER.DELETE." + r.stream + ".*",
		} {
			g.call(g.api(verb))
		}
		g.call(same("$JS.API.CONSUMER.MSG.NEXT."+r.stream+".*"), same("$JS.ACK."+r.stream+".>"), same("$JS.FC."+r.stream+".>"))
	}
	inbox := g.user.InboxPrefix() + ".>"
	g.streams = append(g.streams, link{inbox, deliverSpace(g.subjects, g.user.Name) + inbox})
}

// api leads a JetStream request to the Clerk.
func (g *grants) api(verb string) link {
	return link{"$JS.API." + verb, apiSpace(g.subjects, g.user.Name) + verb}
}

// Internal subjects of the bridge's account.
func apiSpace(s mapping.Subjects, user string) string { return "_" + s.Prefix() + ".api." + user + "." }
func deliverSpace(s mapping.Subjects, user string) string {
	return "_" + s.Prefix() + ".deliver." + user + "."
}
func replySpace(s mapping.Subjects) string { return "_" + s.Prefix() + ".reply." }

// discovery is what `nats micro ls` and `info` ask about the bridge's own service.
var discovery = []string{
	"$SRV.PING", "$SRV.PING." + ServiceName, "$SRV.PING." + ServiceName + ".*",
	"$SRV.INFO", "$SRV.INFO." + ServiceName, "$SRV.INFO." + ServiceName + ".*",
}

// permissions are the same once more, for the server to refuse with a word what goes nowhere.
func (g *grants) permissions() *server.Permissions {
	out := &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: g.pub},
		Subscribe: &server.SubjectPermission{Allow: g.sub},
	}
	if len(g.pub) == 0 {
		out.Publish.Deny = []string{">"} // an empty list would allow everything
	}
	return out
}

// export is what the bridge's account offers to the users' accounts.
type export struct {
	subject string
	many    bool          // a request has more than one answer
	wait    time.Duration // for the answer; 0: the server's 2 minutes
}

// requestPatience is longer than anybody waits for the cloud.
const requestPatience = time.Hour

// serviceExports are the widest subjects of what users' accounts may import as services.
func serviceExports(s mapping.Subjects) []export {
	prefix := s.Prefix()
	out := []export{
		{subject: prefix + ".up.>"}, {subject: prefix + ".req.>", wait: requestPatience},
		{subject: replySpace(s) + ">"}, {subject: "_" + prefix + ".api.>"},
	}
	for _, r := range readables(s) {
		all := r.before + ">"
		out = append(out, export{subject: "$JS.API.DIRECT.GET." + r.stream + "." + all},
			export{subject: "$JS.API.CONSUMER.MSG.NEXT." + r.stream + ".*", many: true},
			export{subject: "$JS.ACK." + r.stream + ".>"}, export{subject: "$JS.FC." + r.stream + ".>"})
	}
	for _, subject := range discovery {
		out = append(out, export{subject: subject, many: true})
	}
	return out
}

// streamExports are the widest subjects of what users' accounts may import as streams.
func streamExports(s mapping.Subjects) []string {
	return []string{s.Prefix() + ".down.>", s.Prefix() + ".cmd.>", "_" + s.Prefix() + ".deliver.>"}
}
