package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"fleetbridge/mapping"
)

// Shadow is what the bridge knows of one Thing's shadow: the last document, and which versions were
// delivered to programs already.
type Shadow struct {
	thing  mapping.Thing
	merged bool
	bucket Bucket
	now    func() time.Time

	mu    sync.Mutex
	doc   document
	delta mark
	undo  mark // the delta's mark before the last GET
	push  mark
	loop  loopGuard
	stale int // deltas in a row that were older than delivered ones

	saver saver
	// damage is why the stored document could not be read; nil: it could, or there was none.
	damage error
}

// document is the value in the bucket FLEETS_SHADOW. The parts stay as they were written.
type document struct {
	Reported  json.RawMessage `json:"reported"`
	Desired   json.RawMessage `json:"desired"`
	Delta     json.RawMessage `json:"delta"`
	Version   int64           `json:"version"`
	UpdatedAt string          `json:"updatedAt"` // RFC 3339; the cloud's word, or when this side last changed it
}

// mark remembers the newest version that was delivered on a channel.
type mark struct {
	version int64
	content uint64 // hash of the state; 0: unknown
	known   bool
}

func hash(state string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(state))
	return h.Sum64()
}

func markOf(m Message) mark {
	out := mark{version: gjson.GetBytes(m.Payload, "version").Int(), known: true}
	if m.Source != SourceShadowGet {
		out.content = hash(gjson.GetBytes(m.Payload, "state").Raw)
	}
	return out
}

// shadowPause is how far the bucket may be behind in a burst of deltas.
const shadowPause = 20 * time.Millisecond

// LoadShadow reads what the last run knew: the document from its bucket, the delivered versions from
// the archive. merged makes Report publish the whole reported state. A document that can't be read is
// left behind with a note in damage: it is a cache of the cloud's, and no reason not to start.
func LoadShadow(ctx context.Context, t mapping.Thing, merged bool, b Bucket, a Archive) (*Shadow, error) {
	s := &Shadow{thing: t, merged: merged, bucket: b, now: time.Now}
	s.saver.write, s.saver.pause = s.write, shadowPause
	raw, err := b.Get(ctx, mapping.Token(string(t)))
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return nil, fmt.Errorf("shadow of %s: %w", t, err)
	default:
		if s.damage = json.Unmarshal(raw, &s.doc); s.damage != nil {
			s.doc = document{}
		}
	}
	for c, m := range map[mapping.Channel]*mark{mapping.ShadowDelta: &s.delta, mapping.ShadowDesired: &s.push} {
		last, err := a.Last(ctx, mapping.Address{Thing: t, Channel: c})
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("shadow of %s: last %s: %w", t, c, err)
		}
		*m = markOf(last)
	}
	return s, nil
}

// Known tells whether there is a document at all.
func (s *Shadow) Known() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doc.Reported != nil || s.doc.Desired != nil || s.doc.Version > 0
}

// Document prints the last known document.
func (s *Shadow) Document() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doc.print()
}

func (d document) print() []byte {
	for _, part := range []*json.RawMessage{&d.Reported, &d.Desired, &d.Delta} {
		if len(*part) == 0 {
			*part = json.RawMessage("{}")
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"reported":%s,"desired":%s,"delta":%s,"version":%d,"updatedAt":%s}`,
		d.Reported, d.Desired, d.Delta, d.Version, gjson.AppendJSONString(nil, d.UpdatedAt))
	return b.Bytes()
}

func (s *Shadow) write(ctx context.Context) error {
	return s.bucket.Put(ctx, mapping.Token(string(s.thing)), s.Document())
}

// Save schedules a write of the document and calls then, if not nil, when it is durable.
func (s *Shadow) Save(ctx context.Context, then func()) { s.saver.save(ctx, then) }

// Delta takes a delta message (protocol page: "Desired State Updates") and tells whether to deliver it.
// A version that was delivered already is not, unless its content is new; an older one never; nor one
// that is caught in a loop. An empty delta is delivered, too: it says that nothing is left to do.
func (s *Shadow) Delta(payload []byte) (deliver bool) {
	version := gjson.GetBytes(payload, "version").Int()
	state := gjson.GetBytes(payload, "state")
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.delta.advances(version, state.Raw) {
		if version < s.delta.version {
			s.stale++
		}
		return false
	}
	s.stale = 0
	s.note(version)
	s.doc.Delta = json.RawMessage(orEmpty(state))
	s.delta = mark{version, hash(state.Raw), true}
	return emptyObject(state) || s.loop.admits(hash(state.Raw), s.now())
}

// Desired takes a desired push, {"state":{"desired":…},"version":n}, and tells whether to deliver it.
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
	s.note(v.Int())
	if emptyObject(desired) {
		s.doc.Desired = json.RawMessage("{}")
	} else {
		s.doc.Desired = mapping.Merge(s.doc.Desired, []byte(desired.Raw))
	}
	return true
}

// WantsResync tells, once per run of them, that the versions keep coming lower than what was
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

// Fetched takes the document that the HTTP API returned (protocol page: "Startup Procedure") and
// returns the delta message to deliver, or nil: an empty delta, or one whose version was delivered
// already. The fetched version becomes the mark, so a Thing that was created anew is heard again.
func (s *Shadow) Fetched(body []byte) (delta []byte) {
	d := gjson.ParseBytes(body)
	version := d.Get("version").Int()
	s.mu.Lock()
	defer s.mu.Unlock()
	local := s.doc.Reported
	s.doc = document{
		Reported: raw(d.Get("reported")), Desired: raw(d.Get("desired")), Delta: raw(d.Get("delta")),
		Version: version, UpdatedAt: d.Get("updatedAt").String(),
	}
	if s.doc.UpdatedAt == "" {
		s.note(version)
	}
	if s.merged && local != nil {
		s.doc.Reported = local // ours is newer: what it holds beyond the cloud's is queued or on its way
	}
	if s.push.version > version {
		s.push = mark{}
	}
	s.stale = 0
	s.undo = s.delta
	pending := d.Get("delta")
	if emptyObject(pending) || s.delta.known && s.delta.version == version {
		s.delta.version, s.delta.known = version, true
		return nil
	}
	at := s.now()
	if t, ok := mapping.Moment(d.Get("updatedAt")); ok {
		at = t
	}
	delta = fmt.Appendf(nil, `{"version":%d,"timestamp":%d,"state":%s}`, version, at.Unix(), pending.Raw)
	s.delta = mark{version: version, known: true}
	s.loop.admits(hash(pending.Raw), s.now())
	return delta
}

// Undelivered takes back that the delta which Fetched returned last was delivered. What was delivered before
// stays so.
func (s *Shadow) Undelivered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delta = s.undo
}

// NewSession forgets the version marks: the broker has no session, so nothing old can arrive from its
// queue, and without a GET a Thing that was created anew would stay mute.
func (s *Shadow) NewSession() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delta.known, s.push.known = false, false
}

// Report takes a report on its way up and returns the payload to publish. In merged mode that is the
// report with the whole reported state in it (RFC 7396); a null is sent this once and then gone. A
// report that would make the whole larger than limit bytes is a Rejection and changes nothing, or
// every later report would be too large as well.
func (s *Shadow) Report(payload []byte, limit int) ([]byte, error) {
	reported := gjson.GetBytes(payload, "state.reported").Raw
	s.mu.Lock()
	defer s.mu.Unlock()
	out := payload
	if s.merged {
		whole := mapping.MergeKeepingNulls(s.doc.Reported, []byte(reported))
		var err error
		if out, err = sjson.SetRawBytes(payload, "state.reported", whole); err != nil {
			return nil, fmt.Errorf("merging the report: %w", err)
		}
		if len(out) > limit {
			return nil, Rejectf(CodeTooLarge, "/state/reported: the whole reported state would have %d bytes with this report, at most %d are allowed; report null for what is gone", len(out), limit)
		}
	}
	s.doc.Reported = mapping.Merge(s.doc.Reported, []byte(reported))
	s.note(0)
	s.loop.reported()
	return out, nil
}

// note marks the document as changed now, and takes over a newer version. The caller holds the lock.
func (s *Shadow) note(version int64) {
	s.doc.Version = max(s.doc.Version, version)
	s.doc.UpdatedAt = s.now().UTC().Format(time.RFC3339Nano)
}

// advances tells whether a version is news on the channel: newer, or equal with other content, where
// the newest wins.
func (m mark) advances(version int64, state string) bool {
	if !m.known || version > m.version {
		return true
	}
	return version == m.version && m.content != 0 && m.content != hash(state)
}

func emptyObject(v gjson.Result) bool {
	if !v.IsObject() {
		return v.Type == gjson.Null
	}
	empty := true
	v.ForEach(func(_, _ gjson.Result) bool { empty = false; return false })
	return empty
}

func raw(v gjson.Result) json.RawMessage {
	if v.Type == gjson.Null {
		return nil
	}
	return json.RawMessage(v.Raw)
}

func orEmpty(v gjson.Result) string {
	if v.Type == gjson.Null {
		return "{}"
	}
	return v.Raw
}
