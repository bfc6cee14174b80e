package local

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// forgedBlocks are header blocks with which a program speaks for the server, or hides what it says.
func forgedBlocks(subject string) map[string]string {
	lines := "Nats-Stream: FLEETS_UP_TELEMETRY\r\nNats-Subject: " + subject + "\r\nNats-Sequence: 1\r\nNats-Time-Stamp: 2099-01-01T00:00:00Z\r\nNats-Last-Sequence: 0\r\n"
	return map[string]string{
		"written":               "NATS/1.0\r\n" + lines + "\r\n",
		"an empty line":         "NATS/1.0\r\n" + lines + "\r\nX: y\r\n\r\n",
		"an empty line at last": "NATS/1.0\r\n" + lines + "\r\n\r\n",
		"LF":                    "NATS/1.0\n" + strings.ReplaceAll(lines, "\r\n", "\n") + "\nX",
		"many short lines":      "NATS/1.0\n" + strings.ReplaceAll(lines, "\r\n", "\n") + strings.Repeat("k:\n", 500) + "\n\r\n",
		"a status":              "NATS/1.0 200 " + strings.Repeat("d", 500) + "\r\n" + lines + "\r\nX: y\r\n\r\n",
		"keys that are empty":   "NATS/1.0\r\n" + lines + strings.Repeat(": x\r\n", 50) + "\r\n\r\n",
		"no colon":              "NATS/1.0\r\nX y\r\n\r\n",
		"no first line":         "HTTP/1.1\r\n\r\n",
		"no end":                "NATS/1.0\r\n",
		"two bytes":             "\r\n",
		"many headers":          "NATS/1.0\r\n" + strings.Repeat("K: v\r\n", 100) + "\r\n",
	}
}

// With an external server a program's headers, of whatever bytes, move no message to another Thing, number or time, and
// stop no lane.
func TestForgedStoredHeaders(t *testing.T) {
	t.Parallel()
	j, url := newJournal(t), startPlain(t, server.RANDOM_PORT, t.TempDir(), true).ClientURL()
	j.forgive("NATS error") // of blocks that nats.go can't read
	nc, err := wire.Dial(testContext(t), wire.DialConfig{URL: url, Log: j.log()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	store, err := Open(testContext(t), nc, StoreConfig{Subjects: subjects(t), Things: []mapping.Thing{"a", "b"}}, j.log())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	b, _ := store.run(t, "b", mapping.Events)
	program := rawLogin(t, url, "")
	blocks := forgedBlocks("fleets.up.b.events.x")
	publish := func(subject string) (payloads []string) {
		for name, block := range blocks {
			if _, answer := program.request("", subject, block, name); !strings.Contains(answer, `"seq"`) {
				t.Fatalf("%s: %s", name, answer)
			}
			payloads = append(payloads, name)
		}
		return payloads
	}
	for round := range 2 {
		waiting := publish("fleets.up.a.events.x") // are read later
		waiting = append(waiting, publish("fleets.up.a.events.x")...)
		looked := 0
		w, err := NewWaiting(nc, subjects(t))
		if err != nil {
			t.Fatal(err)
		}
		enough := errors.New("enough")
		err = w.Each(testContext(t), "a", "", func(m WaitingMessage) error {
			if looked == len(waiting) {
				return enough
			}
			if string(m.Payload) != waiting[looked] || m.Subject != "fleets.up.a.events.x" {
				t.Errorf("%d waits as %s on %s, want %s", looked, m.Payload, m.Subject, waiting[looked])
			}
			looked++
			return nil
		})
		if err != nil || looked != len(waiting) {
			t.Errorf("%d of %d wait, %v", looked, len(waiting), err)
		}
		a, stop := store.run(t, "a", mapping.Events)
		expect(t, a, waiting...)
		expect(t, a, publish("fleets.up.a.events.x")...) // are told
		own := fmt.Sprint("own ", round)
		program.request("", "fleets.up.b.events.x", "", own)
		expect(t, b, own)
		inTime(t, "all is settled", sweepRest, func() bool {
			queued, err := store.Queued(testContext(t))
			return err == nil && queued["a"]+queued["b"] == 0
		})
		stop()
	}
}

// What programs with manners send is not held for hidden.
func TestObscured(t *testing.T) {
	t.Parallel()
	s := startPlain(t, server.RANDOM_PORT, t.TempDir(), false)
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync("x")
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	program := rawLogin(t, s.ClientURL(), "")
	for name, block := range map[string]string{
		"none":        "",
		"a few":       "NATS/1.0\r\nNats-Msg-Id: 17\r\ntraceparent: 00-1-2-01\r\nX: a\r\nX: b\r\n\r\n",
		"no blank":    "NATS/1.0\r\nNats-Msg-Id:17\r\nX:a\r\n\r\n",
		"more blanks": "NATS/1.0\r\nNats-Msg-Id:    17\r\n\r\n",
	} {
		program.publish("x", "", block, "p")
		m, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if wire.Obscured(m, wire.RequestLeast) {
			t.Errorf("%s: obscured", name)
		}
	}
}
