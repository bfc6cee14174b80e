package cluster

import "time"

// Member is a bridge's record in the log.
type Member struct {
	Incarnation string `json:"incarnation"` // of this run of the bridge
	Version     string `json:"version,omitempty"`
	Config      string `json:"config,omitempty"` // digest of its configuration
	// Beat counts the writes of this record. Tick counts those that were due, one a beat: the rest were made earlier, for a
	// proof.
	Beat uint64 `json:"beat"`
	Tick uint64 `json:"tick"`
	// Left: it has stopped in order.
	Left bool `json:"left,omitempty"`
	// Broker: it reaches the broker. Away: it has not for long though others did, so it gives its shards away.
	Broker bool `json:"broker,omitempty"`
	Away   bool `json:"away,omitempty"`
	// What it does, for people.
	Things    int `json:"things"`
	Connected int `json:"connected"`
}

// Shard is a shard's record in the log.
type Shard struct {
	Owner       string `json:"owner"` // empty: it was released
	Incarnation string `json:"incarnation,omitempty"`
	For         string `json:"for,omitempty"` // who should claim it
}

// Drain is a record that asks a bridge to give its shards away; it is there or not.
type Drain struct{}

// Entry is a write that the log has, as it is seen. Exactly one of the pointers is set; for a record that was removed, to
// a zero value.
type Entry struct {
	Seq     uint64
	ID      string // of a member or a drain
	Shard   int
	Member  *Member
	Owner   *Shard
	Drain   *Drain
	Removed bool
}

// Inputs of Step.
type (
	// Tick is due once a beat. One that was missed is not made up for: dead counts them.
	Tick struct{}
	// Prove: somebody waits for Verified, and the next Tick is far.
	Prove struct{}
	// Reached: there is a connection to NATS again.
	Reached struct{}
	// Seen is what the log has, entry by entry, from the newest of each record on.
	Seen struct{ Entry }
	// Told: all that the log had at the start was seen.
	Told struct{}
	// Stopped: the Things of a shard have ended, which Start had begun with this epoch.
	Stopped struct {
		Shard int
		Epoch uint64
	}
	// Fenced: a stream has refused a write of this epoch, and Refusal says Superseded.
	Fenced struct {
		Shard int
		Epoch uint64
	}
	// Leave gives all shards away and claims no more: the process is about to end.
	Leave struct{}
)

// Outputs of Step.
type (
	// Write goes into the log if the record's last sequence is Expect; 0: there is none. The answer does not matter: what was
	// written is Seen.
	Write struct {
		Member *Member
		Owner  *Shard
		Shard  int
		Expect uint64
	}
	// Start: the shard is owned with this epoch. Fence its streams, load, connect when Verified, and run.
	Start struct {
		Shard int
		Epoch uint64
	}
	// Stop ends what Start began, and Stopped follows. Lost: somebody else owns the shard; nothing is written any more.
	// Otherwise what is under way is finished first.
	Stop struct {
		Shard int
		Epoch uint64
		Lost  bool
	}
	// Reconnect: the log does not answer, perhaps another server does.
	Reconnect struct{}
	// Exit: another process has this id.
	Exit struct{ Incarnation string }
)

// Time is the bridge's own, since some moment. It never goes back; a pause may stop it.
type Time = time.Duration
