package bridge

import (
	"hash/maphash"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// mark remembers the newest version that was delivered on a channel.
type mark struct {
	version int64
	content uint64 // hash of the state; 0: unknown
	known   bool
}

// seed is of this process: no hash is stored.
var seed = maphash.MakeSeed()

func hash(state string) uint64 { return maphash.String(seed, state) }

func markOf(m Message) mark {
	out := mark{version: gjson.GetBytes(m.Payload, "version").Int(), known: true}
	if m.Source != SourceShadowGet {
		out.content = hash(gjson.GetBytes(m.Payload, "state").Raw)
	}
	return out
}

// advances reports whether a version is news on the channel: newer, or equal with other content, where
// the newest wins.
func (m mark) advances(version int64, state string) bool {
	if !m.known || version > m.version {
		return true
	}
	return version == m.version && m.content != 0 && m.content != hash(state)
}

// Delta takes a delta message (protocol page: "Desired State Updates") and reports whether to deliver it.
// A version that was delivered already is not, unless its content is new; an older one never; nor one
// that is caught in a loop. An empty delta is delivered, too: it says that nothing is left to do.
func (s *Shadow) Delta(payload []byte) (deliver bool) {
	version, state, timestamp := deltaOf(payload)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.delta.advances(version, state.Raw) {
		if version < s.delta.version {
			s.stale++
		}
		return false
	}
	s.stale = 0
	if at, ok := mapping.Moment(timestamp); ok {
		s.cloud.hears(at, s.now())
	}
	if version >= s.push.version || !s.push.known {
		s.wanted(payload, state)
	}
	s.changed(version)
	s.delta = mark{version, hash(state.Raw), true}
	return emptyObject(state) || s.loop.admits(s.delta.content, s.now())
}

// deltaOf reads a delta once. What it does not have is null.
func deltaOf(payload []byte) (version int64, state, timestamp gjson.Result) {
	var members [3]gjson.Result
	gjson.ParseBytes(payload).ForEach(func(key, value gjson.Result) bool {
		for i, name := range [...]string{"version", "state", "timestamp"} {
			if key.Str == name && !members[i].Exists() {
				members[i] = value
			}
		}
		return true
	})
	return members[0].Int(), members[1], members[2]
}

// wanted changes desired by a delta. What the delta names is desired. What it does not name, and is not reported either,
// is not desired any more: otherwise the cloud would have named it.
func (s *Shadow) wanted(payload []byte, state gjson.Result) {
	named := []byte("{}")
	if state.IsObject() {
		named = payload[state.Index : state.Index+len(state.Raw)]
	}
	pending := s.unconfirmed
	for _, r := range s.flight {
		pending = mapping.MergeKeepingNulls(pending, r.patch)
	}
	s.desired = mapping.Wanted(s.desired, s.known, named, pending)
	s.deltaState = named
}

// Desired takes a desired push, {"state":{"desired":…},"version":n}, and reports whether to deliver it.
func (s *Shadow) Desired(payload []byte) (deliver bool) {
	v := gjson.GetBytes(payload, "version")
	desired := gjson.GetBytes(payload, "state.desired")
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.Exists() {
		state := gjson.GetBytes(payload, "state").Raw
		if !s.push.advances(v.Int(), state) {
			return false
		}
		s.push = mark{v.Int(), hash(state), true}
	}
	if emptyObject(desired) {
		s.desired = []byte("{}")
	} else {
		s.desired = mapping.Merge(s.desired, []byte(desired.Raw))
	}
	if v.Exists() && s.delta.known && v.Int() < s.delta.version && s.deltaState != nil {
		s.desired = mapping.MergeKeepingNulls(s.desired, s.deltaState) // which is newer
	}
	s.changed(v.Int())
	return true
}

// WantsResync reports, once per run of them, that the versions keep coming lower than what was
// delivered: the Thing was probably deleted and created anew, and only a GET can tell.
func (s *Shadow) WantsResync() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stale < staleRun {
		return false
	}
	s.stale = 0
	return true
}

const staleRun = 3

// NewSession forgets the version marks: the broker has no session, so nothing old can arrive from its
// queue, and without a GET the bridge would drop all deltas of a Thing that was created anew.
func (s *Shadow) NewSession() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delta.known, s.push.known = false, false
}

// hears notes a time of the cloud's clock, unless it is far ahead of ours.
func (m *cloudMark) hears(at, now time.Time) {
	if d := at.Sub(now); at.After(m.at) && d < cloudAhead {
		m.at = at
	}
}

// cloudAhead is how far the cloud's clock may be ahead and still order its documents.
const cloudAhead = 24 * time.Hour

func emptyObject(v gjson.Result) bool {
	if !v.IsObject() {
		return v.Type == gjson.Null
	}
	empty := true
	v.ForEach(func(_, _ gjson.Result) bool { empty = false; return false })
	return empty
}
