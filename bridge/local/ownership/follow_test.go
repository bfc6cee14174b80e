package ownership

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"fleetbridge/bridge/local/natstest"
)

// Whose a shard is is looked at when a bridge writes it, not only a few times in a beat.
func TestLogIsHeard(t *testing.T) {
	t.Parallel()
	ctx := natstest.Context(t)
	o, err := Open(ctx, natstest.Connect(t), Config{
		Subjects: natstest.Subjects(t), ID: "a", Run: "1", Shards: 1, Beat: 20 * time.Minute, Log: slog.New(slog.DiscardHandler),
		Count:  func() (int, int, bool) { return 0, 0, true },
		Marked: func(context.Context) (uint64, error) { return 0, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	changed := func() <-chan struct{} {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.changed
	}
	wait := func(c <-chan struct{}) {
		t.Helper()
		select {
		case <-c:
		case <-ctx.Done():
			t.Fatal("nothing is seen")
		}
	}
	looked := changed()
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- o.Run(running) }()
	wait(looked)
	if _, err := o.kv.Put(ctx, keyShard+"0", []byte(`{"owner":"b","incarnation":"2"}`)); err != nil {
		t.Fatal(err)
	}
	for c := changed(); len(o.View().Owners) == 0; c = changed() {
		wait(c)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
