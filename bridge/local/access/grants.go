package access

import (
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"fleetbridge/bridge/local/door"
	"fleetbridge/bridge/local/wire"
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
	mapped   []link   // subjects that become others before anything else is done with them
	shown    []link   // messages of which the bridge gets a copy, with the reply subject as it was sent
}

// grants spells what the user may do. What is not listed is refused.
func (u User) grants(s mapping.Subjects) *grants {
	g := &grants{subjects: s, user: u}
	for _, inbox := range u.Inboxes() {
		g.subscribe(inbox + ">")
		g.streams = append(g.streams, link{inbox + ">", DeliverSpace(s, u.Name) + inbox + ">"})
	}
	g.ask()
	if u.May(AllowReport) || u.May(AllowEvents) || u.May(AllowCommands) || u.May(AllowJobs) {
		g.call(alike(discovery...)...)
	}
	g.talk()
	if u.May(AllowCommands) || len(u.Bus) > 0 { // a handler may be a NATS service, which its own user can discover
		g.subscribe("$SRV.>")
		g.publish("$SRV.>")
		for _, inbox := range u.Inboxes() {
			g.publish(inbox + ">")
		}
	}
	if u.May(AllowRead) {
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
	return u.May(AllowReport) && u.May(AllowEvents) && u.May(AllowCommands) && u.May(AllowJobs)
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
	reads := g.user.May(AllowRead) // which has all of down; an import beside it would deliver twice
	switch what {
	case AllowReport:
		g.upward(t, "shadow")
	case AllowEvents:
		g.upward(t, "events")
	case AllowCommands:
		g.upward(t, "commands")
		g.call(same(wire.ReplySpace(g.subjects) + t + ".>"))
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
	}
}

// Readable is a stream of which readers get their own Things' part.
type Readable struct{ Stream, Before, after string }

// Of is the part of one Thing.
func (r Readable) Of(t string) string { return r.Before + t + r.after }

func (g *grants) readable() []Readable { return Readables(g.subjects) }

// Readables are the streams of which readers get a part.
func Readables(s mapping.Subjects) []Readable {
	out := []Readable{{s.Name(wire.StreamDown), s.Prefix() + "." + string(mapping.SpaceDown) + ".", ".>"}}
	for _, bucket := range []string{wire.BucketShadow, wire.BucketStatus} {
		name := s.Name(bucket)
		out = append(out, Readable{"KV_" + name, "$KV." + name + ".", ""})
	}
	return out
}

// ask lets the user ask JetStream and the cloud for anything: the Clerk sees each request and answers what is not the
// user's, so that nobody waits in vain.
func (g *grants) ask() {
	prefix, user := g.subjects.Prefix(), g.user.Name
	g.publish("$JS.API.>", prefix+".req.>")
	g.shown = append(g.shown, link{"$JS.API.*.>", APISpace(g.subjects, user) + "*.>"}, link{prefix + ".req.>", AskedSpace(g.subjects, user) + ">"})
	// Without this import the server would answer for an account that has no JetStream.
	g.services = append(g.services, link{"$JS.API.INFO", APISpace(g.subjects, user) + "INFO"})
}

// talk lets users speak to each other. A subject of the bus becomes another one when it is published, so that the user's
// own programs hear it from the bridge, as all others do.
func (g *grants) talk() {
	if len(g.user.Bus) == 0 {
		return
	}
	for _, subject := range g.user.Bus {
		g.mapped = append(g.mapped, link{subject, BusIn(g.subjects) + subject})
		g.call(same(BusIn(g.subjects) + subject))
		g.subscribe(subject)
		g.streams = append(g.streams, link{subject, BusOut(g.subjects) + subject})
	}
	g.call(same(BusBack(g.subjects) + ">"))
}

// read grants what does not depend on the Thing. What names a consumer needs nobody to look at it: the Clerk gives
// consumers names that nobody else can know.
func (g *grants) read() {
	for _, r := range g.readable() {
		g.call(same("$JS.ACK."+r.Stream+".>"), same("$JS.FC."+r.Stream+".>"))
	}
}

// APISpace begins the subjects of copies of what a user asks JetStream.
func APISpace(s mapping.Subjects, user string) string { return "_" + s.Prefix() + ".api." + user + "." }

// DeliverSpace begins the subjects on which only a user hears.
func DeliverSpace(s mapping.Subjects, user string) string {
	return "_" + s.Prefix() + ".deliver." + user + "."
}

// AskedSpace begins the subjects of copies of what a user asks the cloud.
func AskedSpace(s mapping.Subjects, user string) string {
	return "_" + s.Prefix() + ".asked." + user + "."
}

// discovery is what `nats micro ls` and `info` ask about the bridge's own service.
var discovery = []string{
	"$SRV.PING", "$SRV.PING." + wire.ServiceName, "$SRV.PING." + wire.ServiceName + ".*",
	"$SRV.INFO", "$SRV.INFO." + wire.ServiceName, "$SRV.INFO." + wire.ServiceName + ".*",
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
		{subject: wire.ReplySpace(s) + ">", wait: door.QuickPatience}, {subject: APISpace(s, "*") + "INFO"},
		{subject: BusIn(s) + ">", many: true}, {subject: BusBack(s) + ">", wait: door.QuickPatience},
	}
	for _, r := range Readables(s) {
		out = append(out, export{subject: "$JS.ACK." + r.Stream + ".>", wait: door.QuickPatience}, export{subject: "$JS.FC." + r.Stream + ".>", wait: door.QuickPatience})
	}
	for _, subject := range discovery { // of one service, so that the server forgets who asked with its answer
		out = append(out, export{subject: subject, wait: door.QuickPatience})
	}
	return out
}

// shownSubjects are what every user's account shows the bridge.
func shownSubjects(s mapping.Subjects) (out []string) {
	for _, l := range (User{}).grants(s).shown {
		out = append(out, l.here)
	}
	return out
}

// streamExports are the widest subjects of what users' accounts may import as streams.
func streamExports(s mapping.Subjects) []string {
	return []string{s.Prefix() + ".down.>", s.Prefix() + ".cmd.>", "_" + s.Prefix() + ".deliver.>", BusOut(s) + ">"}
}

// Internal subjects of the bridge's account for the bus: what users say, what they hear, and where they answer.
func BusIn(s mapping.Subjects) string   { return "_" + s.Prefix() + ".bus.in." }
func BusOut(s mapping.Subjects) string  { return "_" + s.Prefix() + ".bus.out." }
func BusBack(s mapping.Subjects) string { return "_" + s.Prefix() + ".bus.back." }

// Unanswered begin the subjects of the questions that nobody may answer, which the server remembers for a while.
func Unanswered(s mapping.Subjects) (out [][]byte) {
	for _, e := range serviceExports(s) {
		if e.wait == door.QuickPatience {
			out = append(out, []byte(strings.TrimRight(e.subject, ">*")))
		}
	}
	return out
}

// Services are the subjects on which the user's requests and publishes reach the bridge's account.
func (u User) Services(s mapping.Subjects) (out []string) {
	for _, l := range u.grants(s).services {
		out = append(out, l.here)
	}
	return out
}
