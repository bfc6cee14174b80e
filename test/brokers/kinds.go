// Package brokers has the real brokers of the whole-gateway tests: what each does, as far as it differs, processes to start
// and kill, and a log of every packet to judge by. Only tests import it.
package brokers

import (
	"context"

	"fleetbridge/fleetsim"
)

// Kind is a broker, and what is expected of it. What a broker loses is its own loss; the bridge's is none, with all of them.
type Kind struct {
	Name, Version string
	// Prefix begins its topics in the place of $emqx/ in a namespace: "" without namespaces, "$" where it takes topics that
	// begin so, "_" where it refuses them. See Tap.
	Prefix string
	// Shared: it takes seconds to start, so one serves many tests, each in a namespace.
	Shared bool

	KeepsAtKill  bool // sessions, and all that it has acknowledged, over a SIGKILL; false: it may lose them
	Queue        int  // so many messages wait for a client that is away, and the newest are dropped; 0: all wait
	SaysTakeover bool // with a DISCONNECT 0x8E
	HidesDots    bool // a level with a dot from a + in a filter
	// Skips are whole-gateway tests that can't pass with it, and why; a test of this table shows that it is so.
	Skips map[string]string

	start func(ctx context.Context) (Broker, error)
}

const noDots = "names with a dot do not reach the cloud"

// Kinds are all of them.
var Kinds = []Kind{
	{
		Name: "mosquitto", Version: "Debian's",
		start: func(ctx context.Context) (Broker, error) {
			return fleetsim.NewMosquitto(ctx, fleetsim.MosquittoOptions{Persistence: true})
		},
	},
	{
		Name: "artemis", Version: "Apache ActiveMQ Artemis 2.40.0", Prefix: "$", Shared: true,
		KeepsAtKill: true, SaysTakeover: true, HidesDots: true,
		Skips: map[string]string{"TestT18ManyThings": noDots, "TestT21T22OddNames": noDots, "TestEveryRoute": noDots},
		start: inJava("artemis", "Artemis.java"),
	},
	{
		Name: "hivemq", Version: "HiveMQ CE 2025.5", Prefix: "_", Shared: true,
		KeepsAtKill: true, Queue: 1000, SaysTakeover: true,
		start: inJava("hivemq", "HiveMQ.java"),
	},
}

// Find returns the kind with this name.
func Find(name string) (Kind, bool) {
	for _, k := range Kinds {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}

// Start starts one, and returns when it accepts connections.
func (k Kind) Start(ctx context.Context) (Broker, error) { return k.start(ctx) }

// Broker is a real one in a process of its own, on a free port of 127.0.0.1 that stays the same over its restarts.
type Broker interface {
	// URL is mqtt://127.0.0.1:port.
	URL() string
	// Start starts one that was killed again, with what it has kept, and returns when it accepts connections.
	Start(ctx context.Context) error
	// Kill ends it at once, as a crash would.
	Kill() error
	// Close ends it, and removes what it has kept.
	Close() error
}
