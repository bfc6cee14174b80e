package console

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/sightings"
	"fleetbridge/mapping"
)

// reading is a tail as a browser reads it.
type reading struct {
	s    *site
	end  context.CancelFunc
	text *bufio.Reader
	last string // id
}

type event struct{ name, data string }

func (s *site) tail(token, query string, header ...string) *reading {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.context())
	s.t.Cleanup(cancel)
	q, err := http.NewRequestWithContext(ctx, "GET", s.url+base+"tail?"+query, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	answer, err := s.web.RoundTrip(q)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = answer.Body.Close() })
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("tail: %d %v", answer.StatusCode, answer.Header)
	}
	out := &reading{s: s, end: cancel, text: bufio.NewReader(answer.Body)}
	if e := out.next(); e.name != "hello" {
		s.t.Fatalf("the first event is %+v", e)
	}
	return out
}

// next reads an event; none: the stream has ended.
func (r *reading) next() (e event) {
	r.s.t.Helper()
	for {
		line, err := r.text.ReadString('\n')
		if err != nil {
			return event{}
		}
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ": "); name {
		case "event":
			e.name = value
		case "data":
			e.data = value
		case "id":
			r.last = value
		case "":
			if e.name != "" {
				return e
			}
		}
	}
}

// rows reads on until so many rows and skipped ones came.
func (r *reading) rows(want int) (out []seen, skipped sightings.Gap) {
	r.s.t.Helper()
	for len(out)+int(skipped.Sum()) < want {
		switch e := r.next(); e.name {
		case "seen":
			var some []seen
			if err := json.Unmarshal([]byte(e.data), &some); err != nil {
				r.s.t.Fatal(err)
			}
			out = append(out, some...)
		case "gap":
			var g gap
			if err := json.Unmarshal([]byte(e.data), &g); err != nil {
				r.s.t.Fatal(err)
			}
			if g.Skipped != g.By.Sum() {
				r.s.t.Errorf("a gap of %d has %v", g.Skipped, g.By)
			}
			skipped = skipped.Add(g.By)
		default:
			r.s.t.Fatalf("after %d rows and %v skipped of %d: %+v", len(out), skipped, want, e)
		}
	}
	return out, skipped
}

// A tail shows what passes and what became of it, goes on where it was, and says what it did not show.
func TestTail(t *testing.T) {
	s := open(t, nil)
	looker := s.login(false)
	r := s.tail(looker, "channel=event&thing=pump-*")
	s.publish("fleets.up.pump-07.events.hot", `{"eventType":"hot","severity":"info"}`)
	s.publish("fleets.up.pump=2E08.events.hot", `{}`)
	s.publish("fleets.up.pump-07.events.hot", `{}`)
	rows, _ := r.rows(2)
	if rows[0].Outcome == bridge.Dead { // it was refused before the broker had acknowledged the other
		rows[0].Record, rows[1].Record = rows[1].Record, rows[0].Record
	}
	if rows[0].Outcome != bridge.Delivered || rows[1].Outcome != bridge.Dead || rows[1].Code != "schema" || rows[1].Head() != "{}" || rows[1].Number <= rows[0].Number {
		t.Errorf("%+v %+v", rows[0].Record, rows[1].Record)
	}
	r.end()
	s.publish("fleets.up.pump-07.events.cold", `{"eventType":"cold","severity":"info"}`)
	s.until("the last event is kept", func() bool {
		return slices.ContainsFunc(s.gw.Recorder().All(), func(r *sightings.Record) bool { return r.ID == "cold" })
	})
	again := s.tail(looker, "channel=event&thing=pump-*", "Last-Event-ID", r.last)
	if rows, skipped := again.rows(1); len(rows) != 1 || rows[0].ID != "cold" || len(skipped) != 0 {
		t.Errorf("after a pause: %+v, %v skipped", rows, skipped)
	}
	other := s.tail(looker, "", "Last-Event-ID", "another.17")
	if e := other.next(); e != (event{"gap", `{"skipped":0,"lost":true}`}) {
		t.Errorf("of another run: %+v", e)
	}
	for _, query := range []string{"thing=a%20%01", "channel=x", "direction=x", "outcome=x", "more=1", "thing=" + strings.Repeat("*", 9), "text=" + strings.Repeat("x", 257)} {
		if code, text := s.call(looker, "GET", base+"tail?"+query, nil); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, code, text)
		}
	}
}

// What one reader can't be shown is counted, and what is odd is shown before what is not.
func TestTailIsBounded(t *testing.T) {
	s := open(t, nil)
	r := s.tail(s.token, "thing=valve")
	const all = 3000
	watch := s.gw.Recorder()
	channels := []mapping.Channel{mapping.Event, mapping.ShadowReport, ""}
	for n := range all {
		o := bridge.Delivered
		if n%100 == 0 {
			o = bridge.Dead
		}
		watch.Saw(&bridge.Sighting{At: time.Now(), Outcome: o, Address: mapping.Address{Thing: "valve", Channel: channels[n%3], ID: "e"}, Payload: []byte(fmt.Sprint(n))})
	}
	rows, skipped := r.rows(all)
	odd := 0
	of := skipped.Add(nil)
	for _, row := range rows {
		if row.Outcome == bridge.Dead {
			odd++
		}
		of.Miss(mapping.Channel(row.Channel))
	}
	if odd != all/100 {
		t.Errorf("%d shown, %d of them odd, %v skipped", len(rows), odd, skipped)
	}
	for _, c := range []mapping.Channel{mapping.Event, mapping.ShadowReport, "connection"} {
		if skipped[c] == 0 || of[c] != all/3 {
			t.Errorf("of %s are %d skipped, and %d were shown or skipped", c, skipped[c], of[c])
		}
	}
}

func TestChoose(t *testing.T) {
	record := func(o bridge.Outcome, size int) *sightings.Record {
		text := strings.Repeat("x", size)
		return &sightings.Record{Outcome: o, Payload: &text}
	}
	var many, large []*sightings.Record
	for range 200 {
		many = append(many, record(bridge.Delivered, 10))
		large = append(large, record(bridge.Delivered, 4096))
	}
	if shown, left := choose(many); len(shown) != batchRows || left.Sum() != 150 || shown[batchRows-1].Record != many[199] {
		t.Errorf("%d shown, %v left", len(shown), left)
	}
	if shown, left := choose(large); len(shown) > 12 || len(shown)+int(left.Sum()) != 200 {
		t.Errorf("%d large ones shown, %v left", len(shown), left)
	}
	if shown, left := choose([]*sightings.Record{record(bridge.Dead, 1<<20)}); len(shown) != 1 || left != nil {
		t.Errorf("a very large one alone: %d %v", len(shown), left)
	}
	if shown, _ := choose(append(many[:100:100], record(bridge.Dead, 1))); shown[len(shown)-1].Outcome != bridge.Dead {
		t.Error("a dead one is left out")
	}
}

// A tail ends with its login, there are eight at most, and the bridge's stop is told.
func TestTailsEnd(t *testing.T) {
	s := open(t, nil)
	s.console.beat = 20 * time.Millisecond
	looker := s.login(false)
	var all []*reading
	for range 8 {
		all = append(all, s.tail(looker, ""))
	}
	if code, text := s.call(looker, "GET", base+"tail", nil); code != http.StatusServiceUnavailable {
		t.Errorf("the ninth: %d %s", code, text)
	}
	all[0].end()
	s.until("there is room again", func() bool {
		r := s.do(looker, "GET", base+"tail", nil)
		_ = r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	s.console.Revoke()
	for _, r := range all[1:] {
		for e := r.next(); e.name != "bye"; e = r.next() {
			if e.name == "" {
				t.Fatal("the stream ends without a word")
			}
		}
	}
	s.until("there is room again", func() bool {
		r := s.do(s.login(false), "GET", base+"tail", nil)
		_ = r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	last := s.tail(s.login(false), "thing=nothing")
	s.stop()
	if e := last.next(); e != (event{"bye", `{"reason":"the bridge stops"}`}) {
		t.Errorf("at the stop: %+v", e)
	}
}

// Who opens a tail and never reads it holds up no message, and is cut off.
func TestTailThatIsNotRead(t *testing.T) {
	s := open(t, nil)
	s.tail(s.token, "") // and nobody reads
	for n := range 200 {
		s.publish("fleets.up.pump-07.events.hot", fmt.Sprintf(`{"eventType":"hot","severity":"info","data":{"n":%d,"x":%q}}`, n, strings.Repeat("x", 8000)))
	}
	s.until("all of it is delivered", func() bool {
		return get[overviewAnswer](s, "overview").Up.Delivered >= 200
	})
}

// However many strangers send a login slowly, who is logged in goes on seeing messages.
func TestTailAmongSlowStrangers(t *testing.T) {
	s := open(t, nil)
	r := s.tail(s.login(false), "channel=event")
	for range 300 {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := io.WriteString(c, "POST "+base+"session HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "100") { // somebody reads it now
			t.Fatalf("%q, %v", line, err)
		}
	}
	s.publish("fleets.up.pump-07.events.hot", `{"eventType":"hot","severity":"info"}`)
	if rows, _ := r.rows(1); rows[0].ID != "hot" {
		t.Errorf("%+v", rows[0].Record)
	}
}
