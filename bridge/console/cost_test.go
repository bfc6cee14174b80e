package console

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"fleetbridge/bridge/gateway"
	"fleetbridge/mapping"
)

// many makes Things, some of which are away.
func many(n int) look {
	l := look{of: map[string][]string{}}
	for i := range n {
		t := gateway.ThingView{Name: mapping.Thing(fmt.Sprintf("pump-%05d", i)), Queued: uint64(i % 7)}
		if t.State.Connected = i%10 != 0; !t.State.Connected {
			l.of[string(t.Name)] = []string{"not connected to the broker: refused 0x87: not authorized"}
		}
		t.Tally.Up.Dead = uint64(i % 3)
		l.things = append(l.things, t)
	}
	return l
}

// A page of Things has what was asked for, in its order, and is small however many there are.
func TestThingsPages(t *testing.T) {
	l := many(10_000)
	first := l.page("", "", "", 0, pageItems)
	text, err := json.Marshal(first)
	if err != nil || len(text) > 40<<10 || len(first.Items) != pageItems || first.Next != "100" || first.Matched != 10_000 {
		t.Errorf("%d bytes, %d items, next %s, %d matched, %v", len(text), len(first.Items), first.Next, first.Matched, err)
	}
	if want := map[string]int{"all": 10_000, "connected": 9000, "down": 1000, "ready": 9000, "notready": 1000, "queued": 8571, "dead": 6666}; fmt.Sprint(first.States) != fmt.Sprint(want) {
		t.Errorf("%v", first.States)
	}
	seen := map[string]bool{}
	for after := 0; ; after += 7 {
		page := l.page("down", "PUMP-*5", "", after, 7)
		for _, i := range page.Items {
			if seen[i.Thing] || i.Connected || !strings.Contains(i.Thing[5:], "5") {
				t.Errorf("%+v", i)
			}
			seen[i.Thing] = true
		}
		if page.Next == "" {
			break
		}
	}
	if len(seen) != 271 { // of 1,000 that end in 0 those with a 5 before it
		t.Errorf("%d seen", len(seen))
	}
	for _, order := range []string{"queued", "dead"} {
		items := l.page("", "", order, 5000, 500).Items
		if !slices.IsSortedFunc(items, func(a, b thingItem) int {
			if order == "dead" {
				return int(b.Up.Dead) - int(a.Up.Dead)
			}
			return int(b.Queued) - int(a.Queued)
		}) {
			t.Errorf("not sorted by %s", order)
		}
	}
	if beyond := l.page("", "", "", 20_000, 10); len(beyond.Items) != 0 || beyond.Next != "" {
		t.Errorf("beyond the last: %+v", beyond)
	}
}

// BenchmarkThings is a page of the list of 10,000 Things, none of which is connected, from the question on HTTP to the end of
// the answer, by a running gateway.
func BenchmarkThings(b *testing.B) {
	cfg := gateway.Default()
	for i := range 10_000 {
		name := fmt.Sprintf("pump-%05d", i)
		cfg.Things = append(cfg.Things, gateway.Thing{Name: name, ClientID: name})
	}
	mute, err := net.Listen("tcp", "127.0.0.1:0") // it says nothing, so all sessions wait, and cost nothing meanwhile
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = mute.Close() }()
	cfg.MQTT.Server, cfg.MQTT.ConnectTimeout = []string{"mqtt://" + mute.Addr().String()}, time.Hour
	cfg.NATS.Embedded.Listen, cfg.HTTP.Listen, cfg.Console.Listen = "127.0.0.1:0", "", "127.0.0.1:0"
	cfg.NATS.Embedded.StoreDir = b.TempDir()
	gw, err := gateway.New(cfg, gateway.Build{}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	var console *Console
	gw.Console = func(g *gateway.Gateway) gateway.Page { console = newConsole(g); return console }
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- gw.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	select {
	case <-gw.Listening():
	case err := <-ended:
		b.Fatal(err)
	}
	link, err := gw.ConsoleLink(false)
	if err != nil {
		b.Fatal(err)
	}
	at, code, _ := strings.Cut(link, "/#login=")
	ask := func(method, path, token, body string) []byte {
		q, err := http.NewRequestWithContext(ctx, method, at+base+path, strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		if token != "" {
			q.Header.Set("Authorization", "Bearer "+token)
		}
		r, err := http.DefaultClient.Do(q)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = r.Body.Close() }()
		text, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			b.Fatalf("%s: %d %v %s", path, r.StatusCode, err, text)
		}
		return text
	}
	var session loginAnswer
	if err := json.Unmarshal(ask("POST", "session", "", `{"link":"`+code+`"}`), &session); err != nil {
		b.Fatal(err)
	}
	for _, path := range []string{"things", "things?sort=queued&state=down&q=5*7", "overview"} {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				size = len(ask("GET", path, session.Token, ""))
			}
			b.ReportMetric(float64(size), "bytes")
		})
	}
}

// While nobody looks nothing of the console runs, and a reader leaves nothing behind.
func TestNobodyLooks(t *testing.T) {
	s := open(t, nil)
	r := s.tail(s.token, "")
	running := func() bool {
		var all strings.Builder
		if err := pprof.Lookup("goroutine").WriteTo(&all, 2); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(all.String(), "console.(*Console)")
	}
	if !running() {
		t.Fatal("nothing of a tail is seen, so this test sees nothing")
	}
	r.end()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	s.until("nothing of the console runs", func() bool { return !running() })
}
