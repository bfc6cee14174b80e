package journal

import (
	"slices"
	"strings"
)

// Message is a message of a lane, or a view record.
type Message struct {
	Number uint64
	Body   []byte
	// Err is a *Damage when the body can't be read; Body is nil then. If it has an Err of its own, the disk's, another try
	// may succeed.
	Err error
}

// Bodies of a lane that are no further apart than readGap are read at once, up to readAhead bytes.
const (
	readGap   = 4 << 10
	readAhead = 256 << 10
)

// Read returns the messages of a lane with numbers above after, in order: as many as have limit bytes, and at least
// one if there is one. What is settled is not there.
func (j *Journal) Read(lane string, after uint64, limit int64) []Message {
	j.files.RLock()
	defer j.files.RUnlock()
	j.mu.Lock()
	var places []place
	if l := j.index.lanes[lane]; l != nil {
		places = l.take(after, limit)
	}
	j.mu.Unlock()
	return j.read(places, Lane, lane)
}

// Views returns the view records with numbers above after and behind the checkpoint, as Read does.
func (j *Journal) Views(after uint64, limit int64) []Message {
	j.files.RLock()
	defer j.files.RUnlock()
	j.mu.Lock()
	places := j.index.views.take(after, limit)
	j.mu.Unlock()
	return j.read(places, View, "")
}

func (l *lane) take(after uint64, limit int64) (places []place) {
	l.queue.after(after, func(p place) bool {
		if limit -= p.bytes(); limit < 0 && len(places) > 0 {
			return false
		}
		places = append(places, p)
		return true
	})
	return places
}

// Get returns the value of a state: ErrNotFound, or a *Damage if it can't be read.
func (j *Journal) Get(key string) ([]byte, error) {
	j.files.RLock()
	defer j.files.RUnlock()
	j.mu.Lock()
	s := j.index.states[key]
	if s == nil || s.deleted {
		j.mu.Unlock()
		return nil, ErrNotFound
	}
	p := s.place
	j.mu.Unlock()
	m := j.read([]place{p}, State, key)[0]
	return m.Body, m.Err
}

// Keys returns the keys of the state that begin with a prefix, in order.
func (j *Journal) Keys(prefix string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var keys []string
	for key, s := range j.index.states {
		if !s.deleted && strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// read reads bodies. The caller holds j.files, so their files stay.
func (j *Journal) read(places []place, kind Kind, key string) []Message {
	messages := make([]Message, 0, len(places))
	for len(places) > 0 {
		n, length := together(places)
		messages = j.readRun(messages, places[:n], length, kind, key)
		places = places[n:]
	}
	return messages
}

// together returns how many of the places are read at once, and the bytes from the first to the end of the last.
func together(places []place) (n int, length int64) {
	start, end := int64(places[0].at), int64(places[0].at)+places[0].bytes()
	for n = 1; n < len(places); n++ {
		p := places[n]
		gap := int64(p.at) - end
		if p.segment != places[0].segment || gap < 0 || gap > readGap || int64(p.at)+p.bytes()-start > readAhead {
			break
		}
		end = int64(p.at) + p.bytes()
	}
	return n, end - start
}

// readRun reads places that lie together.
func (j *Journal) readRun(to []Message, run []place, length int64, kind Kind, key string) []Message {
	all := make([]byte, length)
	err := j.readAt(all, run[0])
	if err != nil && len(run) > 1 { // some of them may be readable
		for _, p := range run {
			to = j.readRun(to, []place{p}, p.bytes(), kind, key)
		}
		return to
	}
	for _, p := range run {
		start := int64(p.at) - int64(run[0].at)
		body := all[start : start+p.bytes() : start+p.bytes()]
		if err != nil || p.lost() || checksum(body) != p.sum {
			to = append(to, Message{Number: p.number, Err: &Damage{Segment: p.segment, First: p.number, Last: p.number, Kind: kind, Key: key, Err: err}})
			continue
		}
		to = append(to, Message{Number: p.number, Body: body})
	}
	return to
}

func (j *Journal) readAt(b []byte, p place) error {
	if len(b) == 0 {
		return nil
	}
	j.mu.Lock()
	s := j.index.segment(p.segment)
	j.mu.Unlock()
	if s == nil {
		return ErrClosed
	}
	return readFull(s.file, b, int64(p.at))
}
