package ownership

import (
	"context"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/natstest"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
)

// busyOnce is a server that is busy with another checked write, once.
type busyOnce struct {
	jetstream.JetStream
	tries int
}

func (b *busyOnce) PublishMsg(context.Context, *nats.Msg, ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if b.tries++; b.tries == 1 {
		return nil, &jetstream.APIError{Code: 400, ErrorCode: wire.CodeBusy}
	}
	return &jetstream.PubAck{Sequence: 7}, nil
}

// A write that meets a busy server is made again, and is no failure.
func TestFenceOfABusyServer(t *testing.T) {
	t.Parallel()
	busy := &busyOnce{}
	f := &Fence{js: busy, subject: "marker", writing: make(chan struct{}, 1)}
	if err := f.Write(natstest.Context(t), nats.NewMsg("key")); err != nil || busy.tries != 2 || f.Newest() != 7 {
		t.Errorf("after %d tries: %v", busy.tries, err)
	}
}

// still is a server between writers and a stream, which stands still for some writes: it holds them, and hands all others on.
type still struct {
	t    *testing.T
	nc   *nats.Conn
	js   jetstream.JetStream
	deaf map[string]int // how many of a subject are held
	held []*nats.Msg
}

func newStill(t *testing.T) *still {
	t.Helper()
	s := &still{t: t, nc: natstest.Connect(t), deaf: map[string]int{}}
	var err error
	if s.js, err = wire.JetStream(s.nc); err != nil {
		t.Fatal(err)
	}
	config := jetstream.StreamConfig{Name: "STILL", Subjects: []string{"behind.*"}, SubjectTransform: &jetstream.SubjectTransformConfig{Source: "behind.*", Destination: "still.{{wildcard(1)}}"}}
	if _, err := s.js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if _, err := s.nc.Subscribe("still.*", func(m *nats.Msg) {
		reply := m.Reply
		m.Subject, m.Reply = "behind."+m.Subject[len("still."):], ""
		if s.deaf[m.Subject]--; s.deaf[m.Subject] >= 0 {
			s.held = append(s.held, m)
			return
		}
		m.Reply = reply
		_ = s.nc.PublishMsg(m)
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

// goesOn hands on what was held, and returns what the stream says to the last of it.
func (s *still) goesOn(ctx context.Context) (answer *nats.Msg) {
	s.t.Helper()
	for _, m := range s.held {
		var err error
		if answer, err = s.nc.RequestMsgWithContext(ctx, m); err != nil {
			s.t.Fatal(err)
		}
	}
	return answer
}

// A leader that stands still takes questions and writes and answers none, until another one is elected: it is asked again.
// What it took is not stored behind what was written meanwhile, when it goes on.
func TestLeaderStandsStill(t *testing.T) {
	t.Parallel()
	s := newStill(t)
	s.deaf["behind.marker"] = 1
	ctx, cancel := context.WithTimeout(t.Context(), streams.AnswerTime)
	defer cancel()
	f, err := NewFence(ctx, &Term{Epoch: 7, ID: "a"}, s.js, "STILL", "still.marker")
	if err != nil {
		t.Fatalf("the marker is not put: %v", err)
	}
	s.deaf["behind.key"] = 1
	for _, value := range []string{"old", "new"} {
		m := nats.NewMsg("still.key")
		m.Data = []byte(value)
		if err := f.Write(ctx, m); err != nil {
			t.Fatalf("%s: %v", value, err)
		}
	}
	if answer := s.goesOn(ctx); len(s.held) != 2 || !strings.Contains(string(answer.Data), "10071") {
		t.Errorf("%d writes were held, and the last one is answered %s", len(s.held), answer.Data)
	}
	stream, err := s.js.Stream(ctx, "STILL")
	if err != nil {
		t.Fatal(err)
	}
	last, err := stream.GetLastMsgForSubject(ctx, "still.key")
	if err != nil || string(last.Data) != "new" || f.Newest() != last.Sequence {
		t.Errorf("the last value is %q at %d of %d, %v", last.Data, last.Sequence, f.Newest(), err)
	}
}
