package local

import (
	"strings"

	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// queueKey is what a lane is for: a Thing, by its token, and a kind.
type queueKey struct {
	token string
	kind  mapping.Kind
}

func keyOf(t mapping.Thing, k mapping.Kind) queueKey { return queueKey{mapping.Token(string(t)), k} }

// subjectKey reads the lane of a stored subject; space is given as "fleets.up.>". The streams take no subject of
// another kind.
func subjectKey(subject, space string) queueKey {
	token := wire.ThingToken(subject, space)
	rest := subject[min(len(space)+len(token), len(subject)):]
	name, _, _ := strings.Cut(rest, ".")
	kind, _ := mapping.ParseKind(name)
	return queueKey{token, kind}
}

// byThing adds up the counts of lanes by the Thing's token.
func byThing(held map[queueKey]uint64) map[string]uint64 {
	out := make(map[string]uint64, len(held))
	for l, n := range held {
		out[l.token] += n
	}
	return out
}
