package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/sightings"
	"fleetbridge/mapping"
)

var tailEndpoints = []endpoint{
	{method: "GET", path: "tail", role: viewer, query: []string{"thing", "channel", "direction", "outcome", "text"},
		about: "Messages as they pass, with what became of each: server-sent events, at most 50 rows each 100 ms, until the reader goes away. thing may have * for any characters; text is looked for in the first 4 KiB of the payload, the id and the reason. " +
			"The header Last-Event-ID goes on behind an event, as far as it is still kept. A gap says how many rows were not shown, in all and by channel; with lost, also some that were not counted. Eight may look at a time.",
		sample: "event: hello\ndata: {\"instance\":\"9f1c2d3e4a5b\",\"version\":\"v0.4.0\"}\n\n" +
			"event: seen\nid: 9f1c2d3e4a5b.1234\ndata: [{\"n\":1234,\"at\":\"…\",\"outcome\":\"dead\",\"direction\":\"up\",\"thing\":\"pump-08\",\"channel\":\"event\",\"id\":\"hot\",\"code\":\"schema\",\"reason\":\"…\",\"tookMs\":3.1,\"bytes\":96,\"origin\":\"fleets.up.pump-08.events.hot\",\"sequence\":771,\"traceparent\":\"00-…\",\"payload\":\"{…}\"}]\n\n" +
			"event: gap\ndata: {\"skipped\":1203,\"by\":{\"event\":1200,\"connection\":3}}\n\n: a comment every 15 s\n\nevent: bye\ndata: {\"reason\":\"the bridge stops\"}",
		stream: (*Console).tail},
}

// Bounds of what one reader gets.
const (
	batchTime  = 100 * time.Millisecond
	batchRows  = 50
	batchBytes = 51 << 10
	beatTime   = 15 * time.Second
	gapTime    = time.Second
)

// seen is a row.
type seen struct {
	Number uint64 `json:"n"`
	*sightings.Record
}

func (q query) filter() (f sightings.Filter, err error) {
	f.Thing, f.Text = q.text("thing"), q.text("text")
	if _, err = mapping.ParseThing(cmp.Or(strings.ReplaceAll(f.Thing, "*", ""), "x")); err != nil {
		return f, refuse(http.StatusBadRequest, "thing: %s", err)
	}
	channel, err := word(q, "channel", sightings.Channels...)
	if err != nil {
		return f, err
	}
	outcome, err := word(q, "outcome", bridge.Sightings[:]...)
	if err != nil {
		return f, err
	}
	f.Channel, f.Outcome = string(channel), string(outcome)
	if f.Direction, err = word(q, "direction", mapping.Up.String(), mapping.Down.String()); err != nil {
		return f, err
	}
	if err := f.Check(); err != nil {
		return f, refuse(http.StatusBadRequest, "%s", err)
	}
	return f, nil
}

func (c *Console) tail(w http.ResponseWriter, q *request) error {
	f, err := q.filter()
	if err != nil {
		return err
	}
	instance, _ := c.gateway.Instance()
	last := uint64(0)
	before, number, resumes := strings.Cut(q.Header.Get("Last-Event-ID"), ".")
	if resumes && before == instance {
		last, _ = strconv.ParseUint(number, 10, 64)
	}
	reader, lost := c.gateway.Recorder().Read(f, last)
	if reader == nil {
		return refuse(http.StatusServiceUnavailable, "the bridge stops, or eight look already, and no more may")
	}
	defer reader.Close()
	c.gateway.Watched(1)
	defer c.gateway.Watched(-1)
	s := &events{w: w, control: http.NewResponseController(w)}
	_ = s.control.SetReadDeadline(time.Time{}) // a reader says nothing, and is noticed when it goes
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	s.event("hello", "", map[string]string{"instance": instance, "version": c.gateway.Build().Version})
	if lost || resumes && before != instance {
		s.event("gap", "", gap{Lost: true})
	}
	if s.flush() {
		c.follow(q, reader, s, instance)
	}
	return nil
}

// gap is what a reader was not shown.
type gap struct {
	Skipped uint64        `json:"skipped"`
	By      sightings.Gap `json:"by,omitempty"`
	Lost    bool          `json:"lost,omitempty"` // and some that were not counted
}

// follow writes until the reader or the login is gone, or the bridge stops.
func (c *Console) follow(q *request, reader *sightings.Reader, s *events, instance string) {
	beat, pace := time.NewTicker(c.beat), time.NewTimer(0)
	defer beat.Stop()
	defer pace.Stop()
	<-pace.C
	var skipped sightings.Gap
	var gaps <-chan time.Time // set while a gap is to be told
	wake := reader.Wake()
	for {
		select {
		case <-q.Context().Done():
			return
		case <-c.run.Done():
			s.event("bye", "", map[string]string{"reason": "the bridge stops"})
			s.flush()
			return
		case <-beat.C:
			if token := strings.TrimPrefix(q.Header.Get("Authorization"), "Bearer "); !c.logins.good(token) {
				s.event("bye", "", map[string]string{"reason": "the login has ended"})
				s.flush()
				return
			}
			s.comment()
		case <-gaps:
			s.event("gap", "", gap{Skipped: skipped.Sum(), By: skipped})
			skipped, gaps = nil, nil
		case <-wake: // and what comes within the next moment goes with it
			wake = nil
			pace.Reset(batchTime)
			continue
		case <-pace.C:
			wake = reader.Wake()
			rows, missed := reader.Next(nil)
			shown, left := choose(rows)
			missed = missed.Add(left)
			skipped = skipped.Add(missed)
			c.gateway.Unshown(missed.Sum())
			if len(shown) > 0 {
				s.event("seen", fmt.Sprintf("%s.%d", instance, rows[len(rows)-1].Number()), shown)
			}
		}
		if len(skipped) > 0 && gaps == nil {
			gaps = time.After(gapTime)
		}
		if !s.flush() {
			return
		}
	}
}

// choose picks what one batch shows: what was not plainly delivered first, and of each the newest.
func choose(rows []*sightings.Record) (shown []seen, left sightings.Gap) {
	wanted := make([]bool, len(rows))
	n, size := 0, 0
	for _, odd := range []bool{true, false} {
		for i := len(rows) - 1; i >= 0 && n < batchRows; i-- {
			const overhead = 400
			need := overhead + len(rows[i].Head())
			if (rows[i].Outcome != bridge.Delivered) != odd || n > 0 && size+need > batchBytes {
				continue
			}
			wanted[i] = true
			n++
			size += need
		}
	}
	for i, r := range rows {
		if wanted[i] {
			shown = append(shown, seen{r.Number(), r})
		} else {
			left = left.Miss(mapping.Channel(r.Channel))
		}
	}
	return shown, left
}

// events writes server-sent events. A reader that takes nothing for a while is given up.
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buffer  bytes.Buffer
}

func (s *events) event(name, id string, data any) {
	text, err := json.Marshal(data)
	if err != nil { // its parts are texts and numbers
		return
	}
	if id != "" {
		fmt.Fprintf(&s.buffer, "id: %s\n", id)
	}
	fmt.Fprintf(&s.buffer, "event: %s\ndata: %s\n\n", name, text)
}

func (s *events) comment() { s.buffer.WriteString(": still here\n\n") }

func (s *events) flush() (ok bool) {
	if s.buffer.Len() == 0 {
		return true
	}
	err := s.control.SetWriteDeadline(time.Now().Add(answerTime))
	if err == nil {
		_, err = s.w.Write(s.buffer.Bytes())
	}
	if err == nil {
		err = s.control.Flush()
	}
	s.buffer.Reset()
	return err == nil
}
