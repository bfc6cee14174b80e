package gateway

import (
	"fmt"

	"fleetbridge/bridge"
)

const (
	// headerRoom is what a message has in NATS beyond its payload: the headers that say where it came from.
	headerRoom = 16 << 10
	// mostPayload is the most that a NATS server takes.
	mostPayload = 64 << 20
)

// largestRecord is what the bridge may have to store in one piece: a Thing's shadow document has three parts, each of
// which may be as large as a payload, and a note.
func largestRecord(l Limits) int64 { return 3*int64(l.Payload) + bridge.MaxNote + headerRoom }

// embeddedPayload is how much the embedded server takes: every packet that the broker may send, and every record.
func embeddedPayload(l Limits) int {
	return int(min(max(int64(l.Payload)+packetHeadroom+natsHeadroom, largestRecord(l)), mostPayload))
}

// PayloadShortage says what does not fit into a NATS server that takes messages of so many bytes, and the mend; empty:
// all does.
func PayloadShortage(have int64, l Limits) (detail, mend string) {
	want := largestRecord(l)
	if have <= 0 || have >= want {
		return "", ""
	}
	what := "a shadow document larger than that is not kept, and reports that would make it so are refused"
	if have < int64(l.Payload)+headerRoom {
		what = "messages from the cloud that are larger with their headers become dead letters, commands among them are answered REJECTED; " + what
	}
	mend = fmt.Sprintf("raise max_payload of the NATS server to %d", want)
	if lower := (have - bridge.MaxNote - headerRoom) / 3; lower > 0 {
		mend += fmt.Sprintf(", or lower limits.payload to %d", lower)
	}
	return fmt.Sprintf("the NATS server takes messages of %d bytes (max_payload), the bridge may have to store %d: %s", have, want, what), mend
}
