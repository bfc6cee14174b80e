package local

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"fleetbridge/mapping"
)

// buryGroups stores letters until one of a group is among them, and returns its id.
func buryGroups(t *testing.T, r *rig, n int) (id uint64) {
	t.Helper()
	stored := make(chan error, n)
	for i := range n {
		if err := r.store.Bury(testContext(t), upLetter(fmt.Sprint(i)), func(err error) { stored <- err }); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
	}
	stream, err := r.store.js.Stream(testContext(t), "FLEETS_DEAD")
	if err != nil {
		t.Fatal(err)
	}
	for id := range uint64(n) {
		if raw, err := stream.GetMsg(testContext(t), id+1); err == nil && raw.Header.Get(headerBatchID) != "" {
			return id + 1
		}
	}
	t.Fatal("no letter was stored in a group")
	return 0
}

// TestReplayedLettersAreNoBatch: letters that were stored in a group carry its headers, which the server keeps. They are
// replayed all the same.
func TestReplayedLettersAreNoBatch(t *testing.T) {
	r := newRig(t, "pump")
	first := buryGroups(t, r, 300)
	ids := []uint64{first, first + 1}
	if failed := r.store.DeadLetters().Replay(testContext(t), ids...); len(failed) != 0 {
		t.Fatal(failed)
	}
	q, _ := r.run("pump", mapping.Shadow)
	for i := range ids {
		d := next(t, q)
		if string(d.Payload) != fmt.Sprint(first-1+uint64(i)) {
			t.Fatalf("%+v", d)
		}
	}
}

// TestLettersSentOnByPrograms: a program that publishes letters as it finds them, headers and all, begins no batch.
func TestLettersSentOnByPrograms(t *testing.T) {
	for name, relaxed := range map[string]bool{"synced": false, "relaxed": true} {
		t.Run(name, func(t *testing.T) {
			r := newRigWith(t, relaxedIf(relaxed), StoreConfig{})
			live := r.subscribe("fleets.dead.>")
			nc := r.program()
			const n = 300
			buryGroups(t, r, n)
			batched := 0
			for i := range n {
				letter, err := live.NextMsg(patience)
				if err != nil {
					t.Fatal(err)
				}
				if letter.Header.Get(headerBatchID) != "" {
					batched++
				}
				answer, err := nc.RequestMsg(&nats.Msg{Subject: letter.Header.Get(HeaderSubject), Header: letter.Header, Data: letter.Data}, patience)
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
