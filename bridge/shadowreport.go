package bridge

import (
	"fmt"
	"slices"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"fleetbridge/mapping"
)

// Report is a report on its way up. It ends with Taken, when the broker has it, or with Refused.
type Report struct {
	shadow  *Shadow
	payload []byte // as its program sent it
	patch   []byte // state.reported of it
	limit   int
	whole   []byte // as it is published

	number  int
	built   int  // the generation in which it was made
	last    bool // made to be sent behind all others, so these are in it
	suspect bool // refused once: no other report is made with it until it is taken
	taken   bool
}

// fault is a report that turned out to be refused: what was made with it before that generation is refused with it.
type fault struct{ generation, number int }

// Payload is what to publish.
func (r *Report) Payload() []byte { return r.whole }

// Report takes a report on its way up. In merged mode it is published with the whole reported state in it (RFC 7396);
// a null is sent this once and then gone. A report that would make the whole larger than limit bytes, or the
// document larger than the bucket takes, is a Rejection and changes nothing, or every later report would be too
// large as well.
func (s *Shadow) Report(payload []byte, limit int) (*Report, error) {
	r := &Report{shadow: s, payload: payload, patch: []byte(gjson.GetBytes(payload, "state.reported").Raw), limit: limit}
	s.mu.Lock()
	defer s.mu.Unlock()
	after := mapping.Merge(s.reported, r.patch)
	if s.cfg.Merged {
		if err := r.make(mapping.MergeKeepingNulls(s.reported, r.patch)); err != nil {
			return nil, err
		}
		if err := s.room(after); err != nil {
			return nil, err
		}
	} else {
		r.whole = payload
	}
	s.reports++
	r.number, r.built = s.reports, s.generation
	s.flight = append(s.flight, r)
	s.reported = after
	s.refreshing = false // it is the whole
	s.changed(0)
	s.loop.reported()
	return r, nil
}

// make prints the report with the whole reported state.
func (r *Report) make(whole []byte) error {
	out, err := sjson.SetRawBytes(r.payload, "state.reported", whole)
	if err != nil {
		return fmt.Errorf("merging the report: %w", err)
	}
	if len(out) > r.limit {
		return Rejectf(CodeTooLarge, "/state/reported: the whole reported state would have %d bytes with this report, at most %d are allowed; report null for what is gone", len(out), r.limit)
	}
	r.whole = out
	return nil
}

// room refuses a report that would make the stored document too large. One that makes it smaller is always taken.
func (s *Shadow) room(after []byte) error {
	if s.fits(len(after)+2*len(s.desired)+len(s.updatedAt)) || len(after) < len(s.reported) {
		return nil
	}
	d := s.document()
	d.Reported, d.Delta = after, mapping.Missing(s.desired, after)
	if n := len(d.print()); !s.fits(n) {
		return Rejectf(CodeTooLarge, "/state/reported: the shadow document would have %d bytes with this report, and NATS takes %d with its headers; report null for what is gone, or raise max_payload of the NATS server", n, s.cfg.MaxRecord)
	}
	return nil
}

// Taken notes that the broker has the report.
func (r *Report) Taken() {
	s := r.shadow
	s.mu.Lock()
	defer s.mu.Unlock()
	r.taken = true
	s.settle()
	if !r.suspect {
		return
	}
	// Meanwhile others were published without it, and the cloud took each for the whole reported state.
	s.recount()
	if s.cfg.Merged && !s.refreshing {
		s.refreshing = true
		s.refresh()
	}
}

// settle drops the reports that the broker has, up to the first that it does not have.
func (s *Shadow) settle() {
	for len(s.flight) > 0 && s.flight[0].taken {
		s.acknowledged(s.flight[0].patch)
		s.flight[0] = nil
		s.flight = s.flight[1:]
	}
	if len(s.flight) == 0 {
		s.faults = nil
	}
}

// acknowledged merges a patch into what the broker has.
func (s *Shadow) acknowledged(patch []byte) {
	if len(s.flight) == 1 && !s.flight[0].suspect {
		s.known = s.reported
	} else {
		s.known = mapping.Merge(s.known, patch)
	}
	if !s.cfg.Fetches {
		return
	}
	s.unconfirmed = mapping.MergeKeepingNulls(s.unconfirmed, patch)
	if len(s.unconfirmed) > maxUnconfirmed { // nulls for what is long gone
		s.unconfirmed = mapping.Merge(nil, s.unconfirmed)
	}
	s.acked = ackMark{s.now(), s.version}
}

// maxUnconfirmed bounds what piles up between two documents of the cloud: a Thing that makes and removes members of
// ever other names would grow it for ever.
const maxUnconfirmed = 128 << 10

// Again builds the payload for one more try after a refusal, without the other reports that are refused as well. From now
// on this report is left out of all others, until it is taken.
func (r *Report) Again() []byte {
	s := r.shadow
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cfg.Merged || !slices.Contains(s.flight, r) {
		return r.whole
	}
	if !r.suspect {
		r.suspect = true
		s.addFault(r)
	}
	r.remake(false)
	return r.whole
}

// Refused takes the report back, so that nothing of it is merged into later ones. It reports whether it should be
// sent once more instead: it was published with something in it that was refused since, which is left out now.
func (r *Report) Refused() (again bool) {
	s := r.shadow
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.flight, r)
	if i < 0 {
		return false
	}
	if s.cfg.Merged && s.hasFaultyPart(r) {
		r.remake(true)
		return true
	}
	s.flight = slices.Delete(s.flight, i, i+1)
	s.addFault(r)
	s.settle()
	s.changed(0)
	return false
}

// addFault notes that a report is refused for its own content.
func (s *Shadow) addFault(r *Report) {
	s.generation++
	s.faults = append(s.faults, fault{s.generation, r.number})
	s.recount()
}

// hasFaultyPart reports whether a report was made with another one in it that has turned out to be refused since.
func (s *Shadow) hasFaultyPart(r *Report) bool {
	return slices.ContainsFunc(s.faults, func(f fault) bool {
		return f.generation > r.built && (f.number < r.number || r.last && f.number != r.number)
	})
}

// remake builds the whole reported state again, as of the report's place in the order. last: the report is sent behind all
// others that are on their way, so these are in it. If the whole can't be built, it stays as it was.
func (r *Report) remake(last bool) {
	s := r.shadow
	whole, before := s.known, true
	for _, f := range s.flight {
		switch {
		case f == r:
			whole, before = mapping.MergeKeepingNulls(whole, r.patch), false
		case f.taken, !f.suspect && (before || last):
			whole = mapping.Merge(whole, f.patch)
		}
	}
	r.built, r.last = s.generation, last
	_ = r.make(whole)
}

// recount computes reported: known, with what is on its way merged into it.
func (s *Shadow) recount() {
	s.reported = s.known
	for _, f := range s.flight {
		if f.taken || !f.suspect {
			s.reported = mapping.Merge(s.reported, f.patch)
		}
	}
}
