package demo

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/mapping"
)

// inboxPrefix begins the inboxes of the demo's own programs, so that the account can name them.
const inboxPrefix = "_INBOX_"

// tap listens on NATS. All that it hears goes through one channel, so it stays in the server's order.
type tap struct {
	nc      *nats.Conn
	heard   chan *nats.Msg
	synced  chan struct{}
	done    chan struct{}
	journal *journal
}

// connectTime is how long the server may take to let somebody in, on a machine that has much to do.
const connectTime = 10 * time.Second

// tapBuffer is far more than the demo ever has on its way.
const tapBuffer = 8192

// openTap listens to what programs publish and ask, to what comes down, to dead letters and to replies.
// It listens only where somebody answers anyway: a listener must not make the server believe that a
// subject is served. That's why commands are added with their handler, one by one.
func openTap(ctx context.Context, url string, j *journal) (*tap, error) {
	nc, err := nats.Connect(url, nats.Name("account"), nats.Timeout(connectTime))
	if err != nil {
		return nil, err
	}
	t := &tap{nc: nc, heard: make(chan *nats.Msg, tapBuffer), synced: make(chan struct{}, 1), done: make(chan struct{}), journal: j}
	subjects := []string{j.subjects.Thing(mapping.SpaceDown, Thing), j.subjects.Space("dead"), "_INBOX.>", j.handlerReplies() + ">",
		j.subjects.EveryShadowGet()}
	for _, r := range mapping.Routes() {
		if r.Direction == mapping.Up {
			subjects = append(subjects, j.subjects.Service(&r))
		}
	}
	for _, class := range mapping.Classes {
		subjects = append(subjects, j.subjects.Class(Thing, class)...)
	}
	if err := t.listen(subjects...); err != nil {
		t.close()
		return nil, err
	}
	if err := t.replay(ctx); err != nil {
		t.close()
		return nil, err
	}
	go t.run() // what was heard meanwhile comes after the replay
	return t, nil
}

// listen returns when the server knows of the subscriptions.
func (t *tap) listen(subjects ...string) error {
	for _, s := range subjects {
		if _, err := t.nc.ChanSubscribe(s, t.heard); err != nil {
			return fmt.Errorf("listening on %s: %w", s, err)
		}
	}
	return t.nc.Flush()
}

// replay reads what came down before the tap was there.
func (t *tap) replay(ctx context.Context) error {
	js, err := jetstream.New(t.nc)
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, t.journal.subjects.Name("DOWN"))
	if err != nil {
		return err
	}
	last := stream.CachedInfo().State.LastSeq
	for n := uint64(1); n <= last; n++ {
		m, err := stream.GetMsg(ctx, n)
		if err != nil {
			return err
		}
		t.journal.sawNATS(&nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data})
	}
	t.journal.mu.Lock()
	t.journal.replayed = last
	t.journal.mu.Unlock()
	return nil
}

func (t *tap) run() {
	for {
		select {
		case <-t.done:
			return
		case m := <-t.heard:
			if m.Subject == "" { // sync's
				t.synced <- struct{}{}
				continue
			}
			if j := t.journal; j.isReply(m.Sub.Subject) != j.isReply(m.Subject) {
				continue // a stream's delivery to a consumer
			}
			t.journal.sawNATS(m)
		}
	}
}

// sync returns when the journal has all that passed the server before, or when ctx ends.
func (t *tap) sync(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if t.nc.FlushWithContext(ctx) != nil {
		return
	}
	t.heard <- &nats.Msg{}
	<-t.synced
}

func (t *tap) close() {
	t.nc.Close()
	close(t.done)
}

// hearing is a log handler that looks for certain lines.
type hearing struct {
	hear  func(line slog.Record, attrs map[string]string)
	level slog.Level
	attrs []slog.Attr
}

func (h hearing) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h hearing) Handle(_ context.Context, r slog.Record) error {
	attrs := map[string]string{}
	for _, a := range h.attrs {
		attrs[a.Key] = a.Value.String()
	}
	r.Attrs(func(a slog.Attr) bool { attrs[a.Key] = a.Value.String(); return true })
	h.hear(r, attrs)
	return nil
}

func (h hearing) WithAttrs(a []slog.Attr) slog.Handler {
	h.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], a...)
	return h
}

func (h hearing) WithGroup(string) slog.Handler { return h }

// cloudLog sees each message at the broker, where the simulator logs it.
func cloudLog(j *journal) *slog.Logger {
	return slog.New(hearing{level: slog.LevelDebug, hear: func(r slog.Record, attrs map[string]string) {
		switch {
		case r.Level >= slog.LevelWarn:
			j.warn("cloud", line(r, attrs))
		case r.Message == "send":
			j.sawMQTT(false, attrs["topic"], []byte(attrs["payload"]))
		case r.Message == "received" && strings.HasPrefix(attrs["topic"], "$emqx/"):
			j.sawMQTT(true, attrs["topic"], []byte(attrs["payload"]))
		case r.Message == "shadow read":
			j.sawGet(attrs["version"])
		}
	}})
}

// bridgeLog sees what the bridge warns of.
func bridgeLog(j *journal) *slog.Logger {
	return slog.New(hearing{level: slog.LevelWarn, hear: func(r slog.Record, attrs map[string]string) {
		j.warn("bridge", line(r, attrs))
	}})
}

// line is a log line without its time; the Thing is known.
func line(r slog.Record, attrs map[string]string) string {
	out := r.Message
	for _, key := range slices.Sorted(maps.Keys(attrs)) {
		if key != "thing" {
			out += fmt.Sprintf(" %s=%q", key, attrs[key])
		}
	}
	return out
}
