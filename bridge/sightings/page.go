package sightings

import (
	"encoding/json"
	"net/http"
	"time"
)

// Line is one line of the answer: a record, or how many were not shown, in all and by channel, or a word of the bridge.
type Line struct {
	*Record
	Skipped uint64 `json:"skipped,omitempty"`
	By      Gap    `json:"by,omitempty"`
	Hello   string `json:"hello,omitempty"` // the first line: the bridge's version
	Bye     string `json:"bye,omitempty"`   // the last: why no more comes
}

const (
	// writeTime is how long a reader may leave a write waiting before it is cut off.
	writeTime = 10 * time.Second
	// gapTime is the least time between two lines that say how many were not shown.
	gapTime = time.Second
)

// Handler serves GET /tail, a line of JSON for each sighting as it comes, and GET /kept, those that are kept now. stop
// is closed when the bridge stops.
func (r *Recorder) Handler(version string, stop <-chan struct{}) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /tail", func(w http.ResponseWriter, q *http.Request) {
		filter := parseFilter(q.URL.Query())
		if err := filter.Check(); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		tail, _ := r.Read(filter, 0)
		if tail == nil {
			http.Error(w, "the bridge stops, or there are 8 tails already, and no more are allowed", http.StatusServiceUnavailable)
			return
		}
		defer tail.Close()
		p := newPage(w)
		if p.write(Line{Hello: version}) {
			p.follow(tail, q.Context().Done(), stop)
		}
	})
	mux.HandleFunc("GET /kept", func(w http.ResponseWriter, _ *http.Request) {
		p := newPage(w)
		p.records(r.All())
		p.flush()
	})
	return mux
}

// page is an answer of lines.
type page struct {
	control *http.ResponseController
	lines   *json.Encoder
	failed  bool
}

func newPage(w http.ResponseWriter) *page {
	p := &page{control: http.NewResponseController(w), lines: json.NewEncoder(w)}
	p.lines.SetEscapeHTML(false)
	w.Header().Set("Content-Type", "application/x-ndjson")
	return p
}

func (p *page) records(rs []*Record) {
	for _, r := range rs {
		p.line(Line{Record: r})
	}
}

func (p *page) line(l Line) {
	if p.failed {
		return
	}
	if p.control.SetWriteDeadline(time.Now().Add(writeTime)) != nil || p.lines.Encode(l) != nil {
		p.failed = true
	}
}

func (p *page) flush() (ok bool) {
	if p.failed || p.control.SetWriteDeadline(time.Now().Add(writeTime)) != nil || p.control.Flush() != nil {
		p.failed = true
	}
	return !p.failed
}

func (p *page) write(l Line) (ok bool) {
	p.line(l)
	return p.flush()
}

// follow writes what the tail sees until the reader has gone or the bridge stops.
func (p *page) follow(tail *Reader, gone, stop <-chan struct{}) {
	var rows []*Record
	var gap Gap
	var gaps <-chan time.Time // set while a gap is to be told
	for stopped := false; ; {
		select {
		case <-gone:
			return
		case <-stop:
			stopped = true
		case <-gaps:
			if !p.write(Line{Skipped: gap.Sum(), By: gap}) {
				return
			}
			gap, gaps = nil, nil
		case <-tail.Wake():
		}
		var skipped Gap
		rows, skipped = tail.Next(rows[:0])
		gap = gap.Add(skipped)
		p.records(rows)
		if len(rows) > 0 && !p.flush() {
			return
		}
		if stopped {
			if len(gap) > 0 {
				p.line(Line{Skipped: gap.Sum(), By: gap})
			}
			p.write(Line{Bye: "the bridge stops"})
			return
		}
		if len(gap) > 0 && gaps == nil {
			gaps = time.After(gapTime)
		}
	}
}
