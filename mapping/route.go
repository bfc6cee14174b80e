package mapping

import "time"

// Direction tells which way a channel goes.
type Direction uint8

const (
	Up   Direction = iota // local programs to the cloud
	Down                  // the cloud to local programs
)

func (d Direction) String() string {
	if d == Up {
		return "up"
	}
	return "down"
}

// Class separates messages that must not wait from those that may: control never queues behind telemetry.
type Class uint8

const (
	Control   Class = iota // commands and jobs
	Telemetry              // shadow and events
)

func (c Class) String() string {
	if c == Control {
		return "control"
	}
	return "telemetry"
}

// Classes lists both, control first.
var Classes = [...]Class{Control, Telemetry}

// Channel is the name of one kind of message. It also names the schema of its payload.
type Channel string

// The channels of the protocol page, each one way.
const (
	ShadowReport          Channel = "shadow.report"
	ShadowDesired         Channel = "shadow.desired"
	ShadowDelta           Channel = "shadow.delta"
	Event                 Channel = "event"
	CommandRequest        Channel = "command.request"
	CommandResponse       Channel = "command.response"
	JobsNotify            Channel = "jobs.notify"
	JobsNotifyNext        Channel = "jobs.notify-next"
	JobsGet               Channel = "jobs.get"
	JobsGetAccepted       Channel = "jobs.get.accepted"
	JobsGetRejected       Channel = "jobs.get.rejected"
	JobsStartNext         Channel = "jobs.start-next"
	JobsStartNextAccepted Channel = "jobs.start-next.accepted"
	JobsStartNextRejected Channel = "jobs.start-next.rejected"
	JobGet                Channel = "job.get"
	JobGetAccepted        Channel = "job.get.accepted"
	JobGetRejected        Channel = "job.get.rejected"
	JobUpdate             Channel = "job.update"
	JobUpdateAccepted     Channel = "job.update.accepted"
	JobUpdateRejected     Channel = "job.update.rejected"
)

// Identity tells what makes a second message on a channel a redelivery of the first.
type Identity string

const (
	EachIsNew   Identity = ""          // nothing does
	ByVersion   Identity = "version"   // the shadow version in the payload
	ByExecution Identity = "execution" // the execution id in the address
)

// Route is one row of the protocol: how a channel is spelled and what holds for it. QoS is always
// 1 and retain never set (protocol page: "Publish Events", "Report Device State").
type Route struct {
	Channel   Channel
	Direction Direction
	Kind      Kind
	// Topic is the MQTT topic; {t} stands for the Thing and one of {id}, {type} for the id.
	Topic string
	// Tail is the subject after "{prefix}.{space}.{t}.", with the same id.
	Tail string
	// Answers are the accepted and rejected channels of a question to the cloud, else empty.
	Accepted, Rejected Channel
	Identity           Identity
	// Expiry is the age from which a stored question is not sent any more; 0: it never expires.
	Expiry time.Duration
	// EmptyOK allows an empty payload: a notification says enough without one.
	EmptyOK bool
	// About says in a line what the channel is for; it stands in the generated tables.
	About string
}

// staleQuestion is how long a stored question waits for a link before its answer would come too
// late for whoever asked.
const staleQuestion = 30 * time.Second

const (
	things   = "$emqx/things/{t}/"
	commands = "$emqx/commands/things/{t}/executions/"
)

// routes is the whole protocol. Everything that lists channels derives from it: parsing,
// subscriptions, services, schemas, metrics, documentation.
var routes = []Route{
	{Channel: ShadowReport, Direction: Up, Kind: Shadow, Topic: things + "shadow/update", Tail: "shadow.update",
		About: "report of the device's current state"},
	{Channel: ShadowDesired, Direction: Down, Kind: Shadow, Topic: things + "shadow/update", Tail: "shadow.update",
		Identity: ByVersion, About: "desired state as the cloud set it"},
	{Channel: ShadowDelta, Direction: Down, Kind: Shadow, Topic: things + "shadow/update/delta", Tail: "shadow.update.delta",
		Identity: ByVersion, About: "what is desired and not yet reported"},
	{Channel: Event, Direction: Up, Kind: Events, Topic: things + "events/{type}", Tail: "events.{type}",
		About: "something happened"},
	{Channel: CommandRequest, Direction: Down, Kind: Commands, Topic: commands + "{id}/request", Tail: "commands.{id}.request",
		Identity: ByExecution, About: "a command to execute"},
	{Channel: CommandResponse, Direction: Up, Kind: Commands, Topic: commands + "{id}/response", Tail: "commands.{id}.response",
		Identity: ByExecution, About: "how a command ended"},
	{Channel: JobsNotify, Direction: Down, Kind: Jobs, Topic: things + "jobs/notify", Tail: "jobs.notify",
		EmptyOK: true, About: "hint: the list of pending jobs changed"},
	{Channel: JobsNotifyNext, Direction: Down, Kind: Jobs, Topic: things + "jobs/notify-next", Tail: "jobs.notify-next",
		EmptyOK: true, About: "hint: another job is first in the queue"},
	{Channel: JobsGet, Direction: Up, Kind: Jobs, Topic: things + "jobs/get", Tail: "jobs.get",
		Accepted: JobsGetAccepted, Rejected: JobsGetRejected, Expiry: staleQuestion, About: "ask for the pending jobs"},
	{Channel: JobsGetAccepted, Direction: Down, Kind: Jobs, Topic: things + "jobs/get/accepted", Tail: "jobs.get.accepted",
		About: "the pending jobs"},
	{Channel: JobsGetRejected, Direction: Down, Kind: Jobs, Topic: things + "jobs/get/rejected", Tail: "jobs.get.rejected",
		About: "why there is no list"},
	{Channel: JobsStartNext, Direction: Up, Kind: Jobs, Topic: things + "jobs/start-next", Tail: "jobs.start-next",
		Accepted: JobsStartNextAccepted, Rejected: JobsStartNextRejected, Expiry: staleQuestion, About: "start the next pending job"},
	{Channel: JobsStartNextAccepted, Direction: Down, Kind: Jobs, Topic: things + "jobs/start-next/accepted", Tail: "jobs.start-next.accepted",
		About: "the execution that was started, with its job document"},
	{Channel: JobsStartNextRejected, Direction: Down, Kind: Jobs, Topic: things + "jobs/start-next/rejected", Tail: "jobs.start-next.rejected",
		About: "why none was started"},
	{Channel: JobGet, Direction: Up, Kind: Jobs, Topic: things + "jobs/{id}/get", Tail: "jobs.{id}.get",
		Accepted: JobGetAccepted, Rejected: JobGetRejected, Expiry: staleQuestion, About: "ask for one job's execution"},
	{Channel: JobGetAccepted, Direction: Down, Kind: Jobs, Topic: things + "jobs/{id}/get/accepted", Tail: "jobs.{id}.get.accepted",
		About: "the job's execution"},
	{Channel: JobGetRejected, Direction: Down, Kind: Jobs, Topic: things + "jobs/{id}/get/rejected", Tail: "jobs.{id}.get.rejected",
		About: "why it is not shown"},
	{Channel: JobUpdate, Direction: Up, Kind: Jobs, Topic: things + "jobs/{id}/update", Tail: "jobs.{id}.update",
		Accepted: JobUpdateAccepted, Rejected: JobUpdateRejected, About: "report a job's progress or end"},
	{Channel: JobUpdateAccepted, Direction: Down, Kind: Jobs, Topic: things + "jobs/{id}/update/accepted", Tail: "jobs.{id}.update.accepted",
		About: "the update was taken"},
	{Channel: JobUpdateRejected, Direction: Down, Kind: Jobs, Topic: things + "jobs/{id}/update/rejected", Tail: "jobs.{id}.update.rejected",
		About: "why it was not"},
}

// Routes returns the table, in the order of the protocol page. The slice is the caller's own.
func Routes() []Route { return append([]Route(nil), routes...) }

// Route returns the channel's row. It panics on a channel that is not one of this package's.
func (c Channel) Route() *Route {
	r, ok := byChannel[c]
	if !ok {
		panic("mapping: no route for channel " + string(c))
	}
	return r
}

// Class is that of the route's kind.
func (r *Route) Class() Class { return r.Kind.Class() }

// HasID reports whether the channel's addresses carry an id.
func (r *Route) HasID() bool { return r.pattern().id >= 0 }

// IDName is "id", "type" or empty.
func (r *Route) IDName() string { return r.pattern().idName }
