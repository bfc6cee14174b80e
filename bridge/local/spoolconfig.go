package local

import (
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/local/door"
)

// SpoolConfig says what a spool keeps, and how much.
type SpoolConfig struct {
	Dir      string        // of the store
	Up       int64         // bytes of each class that may wait; 0: no limit
	Payload  int           // the largest payload of which the journal must have room for one in a group, twice, however small the disk is
	Interval time.Duration // of syncs of telemetry; 0: every message is synced before its PubAck
	// Intake is a connection of its own to the server, on which the spool hears what programs publish. It closes it.
	Intake *nats.Conn
	// Brake is the server's; nil: nobody is held back.
	Brake *door.Brake
	// Accounts: programs log in to accounts of their own (local.users), so the server says who published.
	Accounts bool
	Window   int        // how many deliveries of a lane may be unsettled; 0: 4096
	FS       journal.FS // nil: the operating system's
	Segment  int64      // bytes of the journal's files; 0: by the size of the disk
	// Checkpoint is how long what the streams have may wait for its sync; 0: a second.
	Checkpoint time.Duration
}

func (c SpoolConfig) window() int {
	if c.Window <= 0 {
		return feedMessages
	}
	return c.Window
}

func (c SpoolConfig) checkpoint() time.Duration {
	if c.Checkpoint <= 0 {
		return checkpointRest
	}
	return c.Checkpoint
}
