package local

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/natstest"
	"fleetbridge/mapping"
)

// A program that replies to nothing without end loses its own Thing's oldest replies. Those of another Thing are kept,
// before and after, as soon as the bridge has looked.
func TestRepliesHaveShares(t *testing.T) {
	t.Parallel()
	for _, flood := range []struct {
		name         string
		size, number int
	}{{"large", 256 << 10, 300}, {"small", 1, 12_000}} {
		t.Run(flood.name, func(t *testing.T) {
			j := newJournal(t)
			j.forgive("have more than their share")
			nc := natstest.Connect(t)
			ctx := testContext(t)
			store, err := Open(ctx, nc, StoreConfig{Subjects: subjects(t), Things: []mapping.Thing{"pump", "bad"}, Shards: 1}, j.log())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(store.Close)
			if flood.size == 1 { // of so many there may be 10,000 here
				store.replyRoom.mu.Lock()
				store.replyRoom.least = repliesKept * 3 / 4 / 10_000
				store.replyRoom.mu.Unlock()
			}
			if _, err := store.js.Publish(ctx, "_fleets.reply.pump.early", []byte("{}")); err != nil {
				t.Fatal(err)
			}
			full := func() (full bool) {
				payload := make([]byte, flood.size)
				for i := range flood.number {
					if err := nc.Publish(fmt.Sprint("_fleets.reply.bad.", i), payload); err != nil {
						t.Fatal(err)
					}
				}
				_, err := store.js.Publish(ctx, "_fleets.reply.bad.last", payload)
				return err != nil
			}
			t.Log("the flood has filled it:", full())
			inTime(t, "another Thing's reply is kept", seldom, func() bool {
				_, err := store.js.Publish(ctx, "_fleets.reply.pump.late", make([]byte, flood.size))
				var taken *jetstream.APIError // it is there since the last time
				return err == nil || errors.As(err, &taken) && taken.Description == "maximum messages per subject exceeded"
			})
			inTime(t, "the flood is cut", seldom, func() bool { return store.RepliesRemoved() > 0 })
			j.expect(t, "WARN", "have more than their share", "thing=bad")
			for _, subject := range []string{"_fleets.reply.pump.early", "_fleets.reply.pump.late"} {
				if _, err := store.replies.GetLastMsgForSubject(ctx, subject); err != nil {
					t.Errorf("%s: %v", subject, err)
				}
			}
			if j.count("thing=pump") > 0 {
				t.Error("who has two replies is cut")
			}
			info, err := store.js.Stream(ctx, "FLEETS_REPLIES")
			if err != nil {
				t.Fatal(err)
			}
			if n := info.CachedInfo().State.Bytes; n > repliesBytes*3/4 {
				t.Errorf("%d bytes are left", n)
			}
		})
	}
}
