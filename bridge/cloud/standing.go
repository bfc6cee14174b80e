package cloud

import (
	"fmt"
	"slices"
)

// Stand says that a kind of messages stands still, and why.
type Stand struct{ Kind, Reason string }

// stands says which lanes stand still, whether suspects are tried, and whether the broker is deaf.
type stands struct {
	lanes [laneCount]bool
	hunt  bool
	deaf  bool
}

func (o *outbound) standing() (s stands) {
	for i := range o.lanes {
		s.lanes[i] = o.lanes[i].standing()
	}
	s.hunt = o.hunt.suspects > 0
	s.deaf = o.deaf && o.waiting() > 0
	return s
}

// reasons says in words what stands still.
func (o *outbound) reasons() (out []Stand) {
	for i := range o.lanes {
		l := &o.lanes[i]
		if l.head != nil && l.standing() {
			out = append(out, Stand{laneNames[i], fmt.Sprintf("%s stand still: topic %q: %s", laneNames[i], l.head.topic, l.trial.why.words)})
		}
	}
	if i := slices.IndexFunc(o.lanes[:], func(l lane) bool { return l.len > 0 }); o.deaf && i >= 0 {
		out = append(out, Stand{laneNames[i], "the broker acknowledges nothing: the last connection ended with messages in flight, and no PUBACK has come since"})
	}
	var first *entry
	o.eachSuspect(func(e *entry) {
		if first == nil {
			first = e
		}
	})
	if first != nil {
		out = append(out, Stand{laneNames[first.lane.index],
			fmt.Sprintf("connections end while messages are in flight; they are tried in groups, from topic %q on", first.topic)})
	}
	return out
}

// standChanged publishes what stands still, and logs what has changed.
func (s *Session) standChanged() {
	var begun, ended []Stand
	s.change(func(st *State) {
		s.mu.Lock()
		s.stands = s.out.standing()
		now := s.out.reasons()
		s.mu.Unlock()
		begun, ended = without(now, st.Standing), without(st.Standing, now)
		if slices.ContainsFunc(ended, func(x Stand) bool { return x.Reason == st.LastError }) {
			st.LastError = ""
		}
		if st.Standing = now; len(begun) > 0 {
			st.LastError = begun[0].Reason
		}
	})
	for _, x := range begun {
		s.log.Warn("messages wait; they go in order when the broker takes them", "kind", x.Kind, "error", x.Reason)
	}
	for _, x := range ended {
		s.log.Info("messages go on", "kind", x.Kind, "error", x.Reason)
	}
}

// without returns those of all that are not in others.
func without(all, others []Stand) (out []Stand) {
	for _, x := range all {
		if !slices.Contains(others, x) {
			out = append(out, x)
		}
	}
	return out
}
