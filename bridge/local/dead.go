package local

import (
	"context"
	"strconv"
	"strings"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/letters"
	"fleetbridge/bridge/local/wire"
)

// Bury is bridge.Graveyard: done(nil) follows when the letter is stored. The payload stays as it was,
// unless NATS can't carry it: then it is cut. Fleets-Truncated says how long a payload was of which only the
// head is there.
func (s *Store) Bury(ctx context.Context, l bridge.Letter, done func(error)) error {
	m := letters.Print(s.cfg.Subjects, l)
	whole := max(l.Size, len(m.Data))
	if room := s.largest() - wire.Size(m) + len(m.Data) - groupRoom; len(m.Data) > room {
		m.Data = m.Data[:max(room-len(wire.HeaderTruncated)-24, 0)]
	}
	if len(m.Data) < whole {
		m.Header.Set(wire.HeaderTruncated, strconv.Itoa(whole))
	}
	n := s.shares.weight(len(m.Subject)+wire.Size(m), len(m.Subject))
	if err := s.shares.admit(ctx, thingOfTail(strings.TrimPrefix(m.Subject, wire.Internal(s.cfg.Subjects.Prefix()+".dead."))), n); err != nil {
		return err
	}
	arrived := func() { s.shares.arrived(n) }
	var err error
	if s.spool != nil {
		err = s.spool.views.dead.send(ctx, &charge{done: done, stored: arrived}, m.Subject, wire.HeadersOf(m.Header), m.Data)
	} else {
		err = s.toDead.send(ctx, m, func(err error) {
			arrived()
			done(err)
		})
	}
	if err != nil {
		arrived()
	}
	return err
}

// largest is how many bytes a message may have, with its headers.
func (s *Store) largest() int {
	most := s.nc.MaxPayload()
	if s.spool != nil {
		most = min(most, s.spool.journal.LargestGroup()-wire.Headroom)
	}
	return int(most)
}

// DeadLetters are those of this store.
func (s *Store) DeadLetters() *letters.Letters { return letters.On(s.js, s.cfg.Subjects) }
