package bridge

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// Question is what was known when the cloud was asked for the document, by which its answer is judged.
type Question struct {
	began       time.Time
	delta, push mark
	documents   cloudMark
}

// Asks begins a question.
func (s *Shadow) Asks() Question {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Question{began: s.now(), delta: s.delta, push: s.push, documents: s.cloud}
}

// Judge returns why a body is no shadow document, or nil. A negative answer may come in a positive envelope, so
// there must be something of a document in it, and no error; and a document without any part must not be older
// than what is known.
func (s *Shadow) Judge(body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := gjson.ParseBytes(body)
	if !d.IsObject() {
		return fmt.Errorf("the answer is no JSON object%s", saying(d))
	}
	if e := d.Get("error"); truthy(e) || truthy(d.Get("errors")) || d.Get("success").Type == gjson.False {
		return fmt.Errorf("the answer is an error%s", saying(d))
	}
	named, full := false, false
	for _, part := range []string{"reported", "desired", "delta"} {
		v := d.Get(part)
		named = named || v.Exists()
		full = full || v.IsObject()
	}
	version := d.Get("version")
	switch {
	case full:
	case !named && (version.Type != gjson.Number || s.isKnown()):
		return fmt.Errorf("the answer is no shadow document: it has neither reported nor desired nor delta%s", saying(d))
	case version.Type != gjson.Number, version.Int() < s.version:
		return fmt.Errorf("the answer is an empty document without a version that could replace what is known (%s after %d)%s", cmp.Or(version.Raw, "none"), s.version, saying(d))
	}
	return nil
}

// truthy reports whether a member says that there was an error.
func truthy(v gjson.Result) bool {
	return v.Exists() && v.Type != gjson.Null && v.Type != gjson.False && v.String() != "" && !emptyObject(v) && v.Raw != "0" && v.Raw != "[]"
}

// saying quotes what an answer says about the error, to be put behind a sentence.
func saying(d gjson.Result) string {
	var words []string
	for _, path := range []string{"code", "status", "message", "detail", "title", "msg", "error", "error.code", "error.message", "errors.0.message", "error_description"} {
		v := d.Get(path)
		if !v.Exists() || v.IsObject() || v.IsArray() || v.Type == gjson.Null || v.String() == "" {
			continue
		}
		words = append(words, strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) {
				return ' '
			}
			return r
		}, v.String()))
	}
	if len(words) == 0 {
		return ""
	}
	text := []rune(strings.Join(words, ", "))
	if len(text) > maxSaying {
		text = append(text[:maxSaying], '…')
	}
	return ": " + string(text)
}

const maxSaying = 200 // runes of an answer's words that are quoted

// Learn takes over a document that the HTTP API returned, and that Judge had nothing against. It is an error when a
// newer one is known.
func (s *Shadow) Learn(q Question, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.learn(q, gjson.ParseBytes(body))
}

func (s *Shadow) learn(q Question, d gjson.Result) error {
	version := d.Get("version").Int()
	at, dated := mapping.Moment(d.Get("updatedAt"))
	if s.cloud.fetched && version < s.cloud.version && s.cloud.version != q.documents.version {
		return fmt.Errorf("a newer document came meanwhile, version %d after %d", version, s.cloud.version)
	}
	if newest := max(s.version, s.cloud.version); version < newest && dated && at.Before(s.cloud.at) && s.cloud.older+1 < olderRun {
		s.cloud.older++
		return fmt.Errorf("the answer is an old document: version %d of %s, and %d of %s is known", version, at.UTC().Format(time.RFC3339), newest, s.cloud.at.UTC().Format(time.RFC3339))
	}
	reset := s.cloud.fetched && version < s.cloud.version
	s.cloud.fetched, s.cloud.version, s.cloud.older = true, version, 0
	if dated {
		if reset {
			s.cloud.at = time.Time{}
		}
		s.cloud.hears(at, s.now())
	}
	s.confirm(q, d)
	if !s.overtaken(q, version) {
		s.desired = raw(d.Get("desired"))
		if pending := d.Get("delta"); !emptyObject(pending) {
			s.desired = mapping.MergeKeepingNulls(s.desired, []byte(pending.Raw))
		}
		s.version, s.deltaState = version, nil
		s.updatedAt = d.Get("updatedAt").String()
	}
	if s.updatedAt == "" {
		s.changed(version)
	}
	s.giveUpBase()
	return nil
}

// olderRun is how many documents in a row must be older, by version and time, until they are believed: then the Thing
// was created anew by a cloud whose clock was set back.
const olderRun = 3

// overtaken reports whether something newer than an answer was delivered since the question.
func (s *Shadow) overtaken(q Question, version int64) bool {
	return s.delta.known && s.delta != q.delta && s.delta.version > version || s.push.known && s.push != q.push && s.push.version > version
}

// confirm takes over what the cloud has as reported, and keeps what it does not show yet.
func (s *Shadow) confirm(q Question, d gjson.Result) {
	s.known = raw(d.Get("reported"))
	if len(s.unconfirmed) > 0 {
		s.unconfirmed = mapping.Unconfirmed(s.unconfirmed, s.known)
		// The cloud had time to take it over, and has newer versions: somebody else has reported something else since.
		if q.began.Sub(s.acked.at) > confirmTime && d.Get("version").Int() > s.acked.version {
			s.unconfirmed = nil
		}
		if len(s.unconfirmed) > len("{}") {
			s.known = mapping.Merge(s.known, s.unconfirmed)
		} else {
			s.unconfirmed = nil
		}
	}
	s.recount()
}

// confirmTime is how long a report may take from the broker to the cloud's document.
const confirmTime = time.Minute

// Fetched is Learn for the startup procedure (protocol page): it returns the delta message to deliver, or nil: an
// empty delta, or one whose version was delivered already. The fetched version becomes the mark, so a Thing that was
// created anew is heard again; but nothing goes back behind what was delivered since the question.
func (s *Shadow) Fetched(q Question, body []byte) (delta []byte, err error) {
	d := gjson.ParseBytes(body)
	version := d.Get("version").Int()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.learn(q, d); err != nil {
		return nil, err
	}
	s.undo = s.delta
	if s.overtaken(q, version) {
		return nil, nil
	}
	if s.push.version > version {
		s.push = mark{}
	}
	s.stale = 0
	pending := d.Get("delta")
	if emptyObject(pending) || s.delta.known && s.delta.version == version {
		s.delta.version, s.delta.known = version, true
		return nil, nil
	}
	at := s.now()
	if t, ok := mapping.Moment(d.Get("updatedAt")); ok {
		at = t
	}
	delta = fmt.Appendf(nil, `{"version":%d,"timestamp":%d,"state":%s}`, version, at.Unix(), pending.Raw)
	s.delta = mark{version: version, known: true}
	s.loop.admits(hash(pending.Raw), s.now())
	return delta, nil
}

// Undelivered notes that the delta which Fetched returned last could not be delivered, so a later GET brings it again.
func (s *Shadow) Undelivered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delta = s.undo
}

func raw(v gjson.Result) []byte {
	if v.Type == gjson.Null {
		return nil
	}
	return []byte(v.Raw)
}
