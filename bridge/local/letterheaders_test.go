package local

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/local/letters"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// groups lets a stream of the embedded server take atomic batches, as one of an external server does, and did with the
// embedded one in versions before the journal had views.
func (r *rig) groups(t *testing.T, name string) {
	t.Helper()
	stream, err := r.store.js.Stream(testContext(t), name)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.AllowAtomicPublish = true
	if _, err := r.store.js.UpdateStream(testContext(t), config); err != nil {
		t.Fatal(err)
	}
}

// buryGroups stores letters in a group.
func buryGroups(t *testing.T, r *rig, n int) {
	t.Helper()
	r.groups(t, "FLEETS_DEAD")
	var group []*nats.Msg
	for i := range n {
		group = append(group, letters.Print(r.store.cfg.Subjects, upLetter(fmt.Sprint(i))))
	}
	answer, err := streams.Commit(testContext(t), r.nc, group, "group")
	if err == nil {
		_, err = streams.PubAck(answer)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestReplayedLettersAreNoBatch: letters that were stored in a group carry its headers, which the server keeps. They are
// replayed all the same.
func TestReplayedLettersAreNoBatch(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	buryGroups(t, r, 30)
	const first = 10
	ids := []uint64{first, first + 1}
	if failed := r.store.DeadLetters().Replay(testContext(t), ids...); len(failed) != 0 {
		t.Fatal(failed)
	}
	q, _ := r.run("pump", mapping.Shadow)
	for i := range ids {
		d := next(t, q)
		if string(d.Payload) != fmt.Sprint(first-1+i) {
			t.Fatalf("%+v", d)
		}
	}
}

// TestLettersSentOnByPrograms: a program that publishes letters as it finds them, headers and all, begins no batch.
func TestLettersSentOnByPrograms(t *testing.T) {
	t.Parallel()
	for name, relaxed := range map[string]bool{"synced": false, "relaxed": true} {
		t.Run(name, func(t *testing.T) {
			r := newRelaxed(t, relaxed)
			live := r.subscribe("fleets.dead.>")
			nc := r.program()
			const n = 30
			buryGroups(t, r, n)
			batched := 0
			for i := range n {
				letter, err := live.NextMsg(patience)
				if err != nil {
					t.Fatal(err)
				}
				if letter.Header.Get(wire.HeaderBatchID) != "" {
					batched++
				}
				answer, err := nc.RequestMsg(&nats.Msg{Subject: letter.Header.Get(wire.HeaderSubject), Header: letter.Header, Data: letter.Data}, patience)
				if err != nil || !strings.Contains(string(answer.Data), `"seq":`) {
					t.Fatalf("%d: %+v, %v", i, answer, err)
				}
			}
			if batched == 0 {
				t.Error("no letter had the headers of a batch")
			}
		})
	}
}
