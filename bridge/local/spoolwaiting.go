package local

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// lanesAtOnce go into one part of an answer.
const lanesAtOnce = 1000

// waiting answers who looks at what waits.
func (s *Spool) waiting(question []byte) any {
	var q waitingQuestion
	if err := json.Unmarshal(question, &q); err != nil {
		return waitingAnswer{Error: fmt.Sprintf("the question is none: %v", err)}
	}
	lanes := slices.DeleteFunc(s.journal.Lanes(), func(b journal.Backlog) bool {
		of, ok := parseLaneKey(b.Lane)
		return !ok || !picks(of, mapping.Thing(q.Thing), q.Kind) || q.After != "" && b.Lane < q.After
	})
	slices.SortFunc(lanes, func(a, b journal.Backlog) int { return strings.Compare(a.Lane, b.Lane) })
	switch q.Do {
	case "lanes":
		return s.waitingLanes(lanes, q.After)
	case "messages":
		return s.waitingMessages(lanes, q)
	case "drop":
		return s.dropWaiting(lanes, mapping.Thing(q.Thing))
	}
	return waitingAnswer{Error: fmt.Sprintf("%q is nothing that this bridge does; use the fleetbridge of its version", q.Do)}
}

func (s *Spool) waitingLanes(lanes []journal.Backlog, after string) (out waitingAnswer) {
	for _, b := range lanes {
		if b.Lane == after {
			continue
		}
		if len(out.Lanes) == lanesAtOnce {
			out.More = true
			return out
		}
		of, _ := parseLaneKey(b.Lane)
		l := WaitingLane{Thing: wire.ThingOf(of.token), Kind: of.kind.String(), Messages: uint64(b.Messages), Bytes: uint64(b.Bytes)}
		for _, e := range s.entries(b.Lane, 0, 1) {
			l.Oldest = e.received
			break
		}
		out.Lanes, out.After = append(out.Lanes, l), b.Lane
	}
	return out
}

// waitingMessages reads on behind a number of the lane After, and then the lanes behind that.
func (s *Spool) waitingMessages(lanes []journal.Backlog, q waitingQuestion) (out waitingAnswer) {
	room := int64(s.store.nc.MaxPayload()) / 4 // of text that becomes half as long again
	for _, b := range lanes {
		of, _ := parseLaneKey(b.Lane)
		past := uint64(0)
		if b.Lane == q.After {
			past = q.Past
		}
		for number, e := range s.entries(b.Lane, past, readBytes) { // of what can't be read is said when it would be sent
			if room < 0 {
				out.More = true
				return out
			}
			out.After, out.Past = b.Lane, number
			room -= int64(len(e.payload) + 2*len(e.subject) + 100)
			out.Messages = append(out.Messages, WaitingMessage{wire.ThingOf(of.token), of.kind.String(), s.sequence(number, e), e.received, e.subject, e.payload})
		}
	}
	return out
}

// dropWaiting settles what waits in lanes that nobody sends.
func (s *Spool) dropWaiting(lanes []journal.Backlog, t mapping.Thing) (out waitingAnswer) {
	if slices.Contains(*s.things.Load(), t) {
		return waitingAnswer{Sends: true}
	}
	for _, b := range lanes {
		of, _ := parseLaneKey(b.Lane)
		if of.token != mapping.Token(string(t)) {
			return waitingAnswer{Error: "name the Thing of which all that waits is to be dropped"}
		}
		n, ok := s.drop(s.lane(of))
		if !ok {
			return waitingAnswer{Sends: true}
		}
		out.Dropped += n
	}
	ctx, cancel := context.WithTimeout(context.Background(), wire.APITimeout)
	defer cancel()
	if err := s.journal.Flush(ctx); err != nil {
		return waitingAnswer{Error: fmt.Sprintf("what is dropped could not be written to the disk, and may be there again after the next start: %v", err)}
	}
	if out.Dropped > 0 {
		s.log.Info("messages were dropped from the queue, as somebody asked", "thing", t, "messages", out.Dropped)
	}
	return out
}

// drop settles everything, unless somebody takes it.
func (s *Spool) drop(l *lane) (n uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.feed != nil {
		return 0, false
	}
	n = uint64(s.journal.Backlog(l.key).Messages)
	clear(l.pending)
	l.settle(l.stored)
	return n, true
}
