package bridge

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// document is the value in the bucket FLEETS_SHADOW. The parts stay as they were written; a part that is null is
// too large to be kept there.
type document struct {
	Reported  json.RawMessage `json:"reported"`
	Desired   json.RawMessage `json:"desired"`
	Delta     json.RawMessage `json:"delta"`
	Version   int64           `json:"version"`
	UpdatedAt string          `json:"updatedAt"` // RFC 3339; the cloud's word, or when this side last changed it
}

func (d document) print() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"reported":%s,"desired":%s,"delta":%s,"version":%d,"updatedAt":%s}`,
		d.Reported, d.Desired, d.Delta, d.Version, gjson.AppendJSONString(nil, d.UpdatedAt))
	return b.Bytes()
}

// shadowNote is what the next run needs beside the document. Programs don't see it.
type shadowNote struct {
	// Undo leads from the document's reported back to what the broker had acknowledged: the rest is still in the
	// queue, comes again, and may be refused.
	Undo json.RawMessage `json:"undo,omitempty"`
	// Unconfirmed is what the broker had acknowledged and no document of the cloud had shown.
	Unconfirmed json.RawMessage `json:"unconfirmed,omitempty"`
	Acked       time.Time       `json:"acked,omitzero"`
	AckVersion  int64           `json:"ackVersion,omitempty"`
	Fetched     bool            `json:"fetched,omitempty"`
	Version     int64           `json:"version,omitempty"` // of the last document that was fetched
	At          time.Time       `json:"at,omitzero"`       // the cloud's clock then
}

// restore takes over a stored document. One of an earlier version of this program has no note: what it says was
// acknowledged, and taken from the cloud if it has a version.
func (s *Shadow) restore(value, note []byte) error {
	var d document
	if err := json.Unmarshal(value, &d); err != nil {
		return err
	}
	n := shadowNote{Fetched: d.Version > 0}
	if len(note) > 0 {
		n = shadowNote{}
		raw, err := base64.StdEncoding.DecodeString(string(note))
		if err == nil {
			err = json.Unmarshal(raw, &n)
		}
		if err != nil {
			return fmt.Errorf("its note: %w", err)
		}
	}
	s.known, s.desired, s.version, s.updatedAt = present(d.Reported), present(d.Desired), d.Version, d.UpdatedAt
	if n.Undo != nil {
		s.known = mapping.Merge(s.known, n.Undo)
	}
	s.reported = s.known
	s.unconfirmed, s.acked = present(n.Unconfirmed), ackMark{n.Acked, n.AckVersion}
	s.cloud = cloudMark{fetched: n.Fetched, version: n.Version, at: n.At}
	return nil
}

func (s *Shadow) shadowNote() []byte {
	n := shadowNote{Fetched: s.cloud.fetched, Version: s.cloud.version, At: s.cloud.at}
	if undo := mapping.Patch(s.reported, s.known); len(s.flight) > 0 && len(undo) > len("{}") {
		n.Undo = undo
	}
	if len(s.unconfirmed) > len("{}") {
		n.Unconfirmed, n.Acked, n.AckVersion = s.unconfirmed, s.acked.at, s.acked.version
	}
	for {
		raw, err := json.Marshal(n)
		if err != nil {
			panic("bridge: a shadow's note can't be printed: " + err.Error()) // its parts are JSON
		}
		switch {
		case base64.StdEncoding.EncodedLen(len(raw)) <= MaxNote:
			return []byte(base64.StdEncoding.EncodeToString(raw))
		case n.Unconfirmed != nil:
			n.Unconfirmed = nil
		default:
			n.Undo = nil
		}
	}
}

// recordRoom is what a record has beside key, value and note: the names of headers, and the subject's.
const recordRoom = 512

// record prints document and note so that they fit, as far as they can: the note is the first to go, then what the
// cloud wants. A record that doesn't fit without it is nil.
func (s *Shadow) record() (value, note []byte, left string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.document()
	value, note = d.print(), s.shadowNote()
	if s.fits(len(value) + len(note)) {
		return value, note, ""
	}
	if s.fits(len(value)) {
		return value, nil, ""
	}
	d.Desired, d.Delta = json.RawMessage("null"), json.RawMessage("null")
	left = fmt.Sprintf("the document has %d bytes", len(value))
	if value = d.print(); s.fits(len(value)) {
		return value, nil, left + "; desired and delta are left out"
	}
	return nil, nil, left + "; its key is removed"
}

func (s *Shadow) fits(size int) bool {
	return s.cfg.MaxRecord <= 0 || size+len(s.cfg.Thing)*3+recordRoom <= s.cfg.MaxRecord
}

// write makes the document durable as it is now.
func (s *Shadow) write(ctx context.Context) error {
	value, note, left := s.record()
	key := mapping.Token(string(s.cfg.Thing))
	var err error
	if value != nil {
		err = s.bucket.PutNoted(ctx, key, value, note)
	}
	if errors.Is(err, ErrTooLarge) { // the server takes less than it said
		value, left = nil, fmt.Sprintf("the document has %d bytes, which NATS refuses; its key is removed", len(value))
	}
	if value == nil {
		err = s.bucket.Delete(ctx, key)
	}
	if err == nil {
		s.size.note(left, s.cfg.MaxRecord)
	}
	return err
}

// sizeNote says once when a document does not fit, and when it does again. It is the saver's.
type sizeNote struct {
	log  *slog.Logger
	left bool
}

func (n *sizeNote) note(left string, limit int) {
	switch {
	case n.log == nil || (left != "") == n.left:
	case left != "":
		n.log.Warn("the shadow document is larger than NATS takes and is not kept whole in its bucket; raise max_payload of the NATS server, or make desired and reported smaller",
			"limit", limit, "error", left)
	default:
		n.log.Info("the shadow document fits into its bucket again")
	}
	n.left = left != ""
}

// present is a part, or nil if there is none.
func present(part json.RawMessage) []byte {
	if len(part) == 0 || string(part) == "null" {
		return nil
	}
	return part
}

func orEmpty(part []byte) []byte {
	if len(part) == 0 {
		return []byte("{}")
	}
	return part
}
