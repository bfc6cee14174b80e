package sightings

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"

	"fleetbridge/bridge"
)

// Filter picks sightings; what is empty picks all.
type Filter struct {
	Thing     string // * stands for any characters
	Channel   string
	Direction string // up or down
	Outcome   string
	Text      string // in what is kept of the payload, in the id or in the reason
}

// picks reports whether a sighting is wanted. It is asked of every message while somebody looks.
func (f *Filter) picks(s *bridge.Sighting) bool {
	return (f.Outcome == "" || f.Outcome == string(s.Outcome)) &&
		(f.Direction == "" || f.Direction == direction(s)) &&
		(f.Channel == "" || f.Channel == string(s.Address.Channel)) &&
		(f.Thing == "" || like(f.Thing, string(s.Address.Thing))) &&
		(f.Text == "" || strings.Contains(s.Reason, f.Text) || strings.Contains(s.Address.ID, f.Text) ||
			bytes.Contains(s.Payload[:min(len(s.Payload), maxPayload)], []byte(f.Text)))
}

// keeps is picks for what is kept.
func (f *Filter) keeps(r *Record) bool {
	return (f.Outcome == "" || f.Outcome == string(r.Outcome)) &&
		(f.Direction == "" || f.Direction == r.Direction) &&
		(f.Channel == "" || f.Channel == r.Channel) &&
		(f.Thing == "" || like(f.Thing, r.Thing)) &&
		(f.Text == "" || strings.Contains(r.Reason, f.Text) || strings.Contains(r.ID, f.Text) || strings.Contains(r.Head(), f.Text))
}

// MaxPattern is how many bytes Thing and Text may have: each is compared with every message while somebody looks.
const MaxPattern = 256

// Check says what is wrong with a filter that somebody gave.
func (f *Filter) Check() error {
	for _, m := range f.members() {
		if len(*m.value) > MaxPattern {
			return fmt.Errorf("%s has %d bytes, it may have %d", m.name, len(*m.value), MaxPattern)
		}
	}
	if n := strings.Count(f.Thing, "*"); n > maxStars {
		return fmt.Errorf("thing has %d times *, it may have %d", n, maxStars)
	}
	return nil
}

// maxStars is how often * may stand in a pattern.
const maxStars = 8

// narrow reports whether the filter names what it is about, so that little passes it.
func (f *Filter) narrow() bool { return f.Thing != "" || f.Channel != "" || f.Text != "" }

// like reports whether s is the pattern, in which * stands for any characters.
func like(pattern, s string) bool {
	first, rest, any := strings.Cut(pattern, "*")
	if !any {
		return s == pattern
	}
	s, ok := strings.CutPrefix(s, first)
	for ok && any {
		first, rest, any = strings.Cut(rest, "*")
		if !any {
			return strings.HasSuffix(s, first)
		}
		_, s, ok = strings.Cut(s, first)
	}
	return false
}

// query spells the filter in a URL.
func (f *Filter) query() url.Values {
	q := url.Values{}
	for _, m := range f.members() {
		if *m.value != "" {
			q.Set(m.name, *m.value)
		}
	}
	return q
}

// parseFilter is the inverse of query. Only the command of the same version asks, so what it does not know it leaves.
func parseFilter(q url.Values) (f Filter) {
	for _, m := range f.members() {
		*m.value = q.Get(m.name)
	}
	return f
}

type member struct {
	name  string
	value *string
}

func (f *Filter) members() []member {
	return []member{{"thing", &f.Thing}, {"channel", &f.Channel}, {"direction", &f.Direction}, {"outcome", &f.Outcome}, {"text", &f.Text}}
}
