// The command device is a small thermostat that is a Thing, by MQTT or by NATS, and that makes one mistake when it is told
// to: for the tests of fleetsim conform. What it needs is in the environment, as conform sets it.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/tidwall/gjson"
)

// Mistakes that it can make, and the check of conform that must find each. In front of the colon: where it can be made.
var mistakes = map[string]map[string]string{
	"mqtt": {
		"mute":              "report",        // reports nothing
		"qos-0":             "record",        // reports with QoS 0
		"retained":          "record",        // reports retained
		"desired-reported":  "record",        // writes desired into its report
		"deaf":              "delta",         // ignores deltas
		"first-only":        "follow",        // follows one delta
		"any-version":       "stale delta",   // applies old deltas, too
		"no-answer":         "command",       // does not answer commands
		"two-answers":       "command",       // answers twice
		"no-memory":         "command twice", // runs a command each time it is delivered
		"no-clock":          "late command",  // runs commands whose time is over
		"polite":            "bad command",   // whatever the params are, it SUCCEEDED
		"no-reason":         "bad command",   // FAILED without an error
		"yes-man":           "unknown",       // every action SUCCEEDED
		"crash":             "odd messages",  // ends over what is no JSON
		"wrong-version":     "job",           // updates with an expectedVersion that never fits
		"forgets-job":       "reboot",        // does not look for a job that it had begun
		"forgets-desired":   "reboot",        // a new session at each start, and no look at the shadow
		"clean-session":     "lost link",     // a session that ends with the connection
		"no-reconnect":      "lost link",     // ends when the link is lost
		"impatient":         "early start",   // ends when nothing is there at its start
		"deaf-to-signals":   "stop",          // ignores SIGTERM
		"exit-code":         "stop",          // ends with 3
		"seconds":           "event",         // timestamps its event in seconds
		"other-event":       "event",         // sends an event of another type
		"no-command-filter": "connect",       // is not subscribed to commands
	},
	"nats": {
		"mute":            "report",
		"wrong-subject":   "report", // reports to a Thing that is not configured
		"deaf":            "delta",
		"no-answer":       "command",
		"polite":          "bad command",
		"no-reason":       "bad command",
		"bad-report":      "record", // a report that breaks the schema
		"no-job":          "job",
		"forgets-job":     "reboot", // asks without the name of a worker
		"forgets-desired": "reboot", // does not ask for the shadow
		"no-reconnect":    "lost link",
		"impatient":       "early start",
		"deaf-to-signals": "stop",
		"exit-code":       "stop",
		"other-event":     "event",
	},
}

var mistake = flag.String("mistake", "", "the one to make")

func makes(names ...string) bool { return slices.Contains(names, *mistake) }

// transport is how a thermostat reaches the cloud. Each returns when the message is taken, or lost.
type transport interface {
	report(ctx context.Context, state string) error
	event(ctx context.Context, kind, payload string) error
	// run serves until ctx ends.
	run(ctx context.Context, t *thermostat) error
}

// thermostat is the device, whatever it speaks.
type thermostat struct {
	transport

	mu     sync.Mutex
	target float64
	deltas int
}

const coldest, hottest = 5, 30

// apply does what is desired, as far as it can, and reports it.
func (t *thermostat) apply(ctx context.Context, state gjson.Result) error {
	v := state.Get("targetTemperature")
	if v.Type != gjson.Number || makes("deaf") {
		return nil
	}
	t.mu.Lock()
	t.deltas++
	if t.deltas > 1 && makes("first-only") {
		t.mu.Unlock()
		return nil
	}
	t.target = min(max(v.Float(), coldest), hottest)
	t.mu.Unlock()
	return t.tell(ctx)
}

// tell reports what there is.
func (t *thermostat) tell(ctx context.Context) error {
	t.mu.Lock()
	target := t.target
	t.mu.Unlock()
	switch {
	case makes("mute"):
		return nil
	case makes("desired-reported"):
		return t.report(ctx, fmt.Sprintf(`{"state":{"reported":{"targetTemperature":%v},"desired":{"targetTemperature":%v}}}`, target, target))
	case makes("bad-report"):
		_ = t.report(ctx, `{"state":{"reported":7}}`)
	}
	return t.report(ctx, fmt.Sprintf(`{"state":{"reported":{"targetTemperature":%v}}}`, target))
}

// serve carries out a command, and returns its response.
func (t *thermostat) serve(ctx context.Context, action string, params gjson.Result) string {
	v := params.Get("value")
	switch {
	case makes("yes-man"):
	case action != "setTemperature":
		return `{"status":"REJECTED","result":{"error":"unknown action"}}`
	case makes("polite"):
	case v.Type != gjson.Number || v.Float() < coldest || v.Float() > hottest:
		if makes("no-reason") {
			return `{"status":"FAILED"}`
		}
		return `{"status":"FAILED","result":{"error":"params.value is no temperature"}}`
	}
	_ = t.apply(ctx, gjson.Parse(fmt.Sprintf(`{"targetTemperature":%v}`, v.Float())))
	if v.Float() == hottest {
		t.overheats(ctx)
	}
	return `{"status":"SUCCEEDED"}`
}

func (t *thermostat) overheats(ctx context.Context) {
	kind, at := "overheated", time.Now().UnixMilli()
	if makes("other-event") {
		kind = "warm"
	}
	if makes("seconds") {
		at /= 1000
	}
	_ = t.event(ctx, kind, fmt.Sprintf(`{"eventType":%q,"severity":"warn","timestamp":%d}`, kind, at))
}

// work does a job, whose document says how long it takes; update tells the cloud.
func (t *thermostat) work(document gjson.Result, update func(status string) error) error {
	if err := update("IN_PROGRESS"); err != nil {
		return err
	}
	if document.Get("impossible").Bool() {
		return update("FAILED")
	}
	time.Sleep(time.Duration(document.Get("seconds").Float() * float64(time.Second)))
	return update("SUCCEEDED")
}

// object parses a payload. What is none is an error, or with one mistake the end.
func object(payload []byte) (gjson.Result, bool) {
	if !json.Valid(payload) || !bytes.HasPrefix(payload, []byte("{")) {
		if makes("crash") {
			log.Fatalf("no JSON: %q", payload)
		}
		return gjson.Result{}, false
	}
	return gjson.ParseBytes(payload), true
}

func main() {
	over := flag.String("over", "mqtt", "mqtt or nats")
	flag.Parse()
	if *mistake != "" && mistakes[*over][*mistake] == "" {
		log.Fatalf("-mistake %s is none over %s", *mistake, *over)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if makes("deaf-to-signals") {
		ctx = context.WithoutCancel(ctx)
	}
	t := &thermostat{target: 20, transport: newMQTT()}
	if *over == "nats" {
		t.transport = newNATS()
	}
	if err := t.run(ctx, t); err != nil {
		log.Fatal(err)
	}
	if makes("exit-code") {
		os.Exit(3)
	}
}
