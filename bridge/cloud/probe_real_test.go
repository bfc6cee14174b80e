//go:build realbroker

package cloud

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"fleetbridge/mapping"
)

// What a real broker keeps for a Thing is there after a probe as before, in order, and a session that was
// not there is not there afterwards either.
func TestProbeLeavesARealSessionAsItWas(t *testing.T) {
	b := startMosquitto(t, "")
	server := &url.URL{Scheme: "mqtt", Host: b.address}
	cfg := Config{Servers: []*url.URL{server}, ClientID: "pump-07", SessionExpiry: time.Hour}
	probe := func(present bool, waiting int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		p, err := OpenProbe(ctx, "pump-07", cfg, server)
		if err != nil {
			t.Fatal(err)
		}
		grants, err := p.Subscribe(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range grants {
			if g.Code != 1 {
				t.Errorf("%+v", g)
			}
		}
		same(t, "session present", p.SessionPresent(), present)
		n, _ := p.Waiting()
		same(t, "messages that wait", n, waiting)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	probe(false, 0)
	probe(false, 0) // the first left nothing behind

	session := func(take int) (got []string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		subscribed := make(chan struct{}, 1)
		s := NewSession("pump-07", cfg, Hooks{Ready: func(context.Context, bool) { subscribed <- struct{}{} }}, slog.New(slog.DiscardHandler))
		run, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- s.Run(run) }()
		select {
		case <-subscribed:
		case <-ctx.Done():
			t.Fatal("not subscribed")
		}
		for len(got) < take {
			for _, d := range s.Take(ctx) {
				got = append(got, string(d.Payload))
				d.Settle()
			}
			if ctx.Err() != nil {
				t.Fatalf("%d messages came: %v", len(got), got)
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		return got
	}
	session(0)
	cloud := b.other("fleets", func(*paho.Publish) {})
	var want []string
	for i := range 30 {
		want = append(want, fmt.Sprintf(`{"action":"a%d"}`, i))
		topic := mapping.Address{Thing: "pump-07", Channel: mapping.CommandRequest, ID: fmt.Sprint(i)}.Topic()
		if _, err := cloud.Publish(t.Context(), &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(want[i])}); err != nil {
			t.Fatal(err)
		}
	}
	probe(true, len(want))
	probe(true, len(want))
	same(t, "what came", fmt.Sprint(session(len(want))), fmt.Sprint(want))
}
