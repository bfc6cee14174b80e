package wire

import (
	"strings"

	"fleetbridge/mapping"
)

// Streams and buckets, by what follows the prefix in their names.
const (
	streamUpControl   = "UP_CONTROL"
	streamUpTelemetry = "UP_TELEMETRY"
	StreamDown        = "DOWN"
	StreamDead        = "DEAD"

	BucketShadow     = "SHADOW"
	BucketStatus     = "STATUS"
	BucketExecutions = "EXECUTIONS"
	BucketLeases     = "LEASES"
	BucketMarks      = "MARKS"

	StreamReplies = "REPLIES" // only in a cluster
)

// UpStream is the stream of a class, without the prefix.
func UpStream(c mapping.Class) string {
	if c == mapping.Control {
		return streamUpControl
	}
	return streamUpTelemetry
}

// Internal is the subject on which a stream takes from the bridge what it stores under the public one.
func Internal(public string) string { return "_" + public }

// MirroredSubject has the public subjects of a space, {prefix}.{space}.>
func MirroredSubject(s mapping.Subjects, space string) string { return s.Prefix() + "." + space + ".>" }

// SpaceDead is where dead letters are.
const SpaceDead = "dead"

// MirroredSubjects are those on which the bridge alone publishes: the public ones, and the internal ones behind them.
func MirroredSubjects(s mapping.Subjects) []string {
	down, dead := MirroredSubject(s, string(mapping.SpaceDown)), MirroredSubject(s, SpaceDead)
	return []string{down, dead, Internal(down), Internal(dead)}
}

// ReplySpace begins the subjects of replies to commands, _{prefix}.reply.
func ReplySpace(s mapping.Subjects) string { return "_" + s.Prefix() + ".reply." }

// ThingToken is the first token after a space's, given as "fleets.up.>".
func ThingToken(subject, space string) string {
	rest := subject[min(len(space)-1, len(subject)):]
	for i := range len(rest) {
		if rest[i] == '.' {
			return rest[:i]
		}
	}
	return rest
}

// ThingOf reads the Thing at the beginning of a subject's tail, as in "pump.events.e"; empty: there is none.
func ThingOf(tail string) string {
	token, _, _ := strings.Cut(tail, ".")
	name, err := mapping.Untoken(token)
	if err != nil {
		return ""
	}
	if _, err := mapping.ParseThing(name); err != nil {
		return ""
	}
	return name
}

// ServiceName is what `nats micro ls` shows.
const ServiceName = "fleetbridge"

// Crossing begins the reply subjects that the server makes between accounts.
const Crossing = "_R_."
