// The command matrix runs the whole-gateway tests against real brokers, and prints for each test what is expected of that broker
// and what was seen:
//
//	go run ./test/brokers/matrix mosquitto artemis hivemq
//
// Those in a Java machine are where test/brokers/prepare has put them. The exit code is 1 when something else was seen.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"fleetbridge/test/brokers"
)

// wholeGateway are the tests with a broker in them, without those that the simulator's alone can show.
const wholeGateway = "^Test(Broker|Reports|Shadow|Start|Without|Job|ManyCallers|Requests|Command|Trace|Backlog|LinkThat|Poison|Control|" +
	"Readiness|Compact|What|T[0-9]|Load|Late|Answer|Raw|Lease|Stop(Under|Finishes|During)|Handler|EveryRoute|Thing|Users|Store|Full|" +
	"Reload|Tail|Oldest|Connected|External|Unreadable)"

func main() {
	race := flag.Bool("race", false, "with the race detector")
	run := flag.String("run", wholeGateway, "the `TESTS`")
	limit := flag.Duration("limit", 8*time.Minute, "after which the tests with one broker are ended; they take two on two cores")
	flag.Parse()
	var kinds []brokers.Kind
	for _, name := range flag.Args() {
		kind, is := brokers.Find(name)
		if !is {
			fmt.Fprintf(os.Stderr, "matrix: %q is no broker: use mosquitto, artemis, hivemq\n", name)
			os.Exit(2)
		}
		kinds = append(kinds, kind)
	}
	if len(kinds) == 0 {
		fmt.Fprintln(os.Stderr, "matrix: name a broker: mosquitto, artemis, hivemq")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "test\tbroker\texpected\tseen")
	ok := true
	for _, kind := range kinds {
		tests, err := testWith(ctx, kind, *race, *run, *limit)
		if err != nil {
			fmt.Fprintf(os.Stderr, "matrix: %s: %v\n", kind.Name, err)
			ok = false
		}
		ok = print(out, kind, tests) && ok
	}
	_ = out.Flush()
	if !ok {
		os.Exit(1)
	}
}

// test is one, and what it has said.
type test struct {
	name, result   string // result: pass, fail or skip
	expected, seen string
	output         strings.Builder
}

// testWith runs the tests, and returns those that ran or were skipped, in the order in which they began.
func testWith(ctx context.Context, kind brokers.Kind, race bool, run string, limit time.Duration) ([]*test, error) {
	args := []string{"test", "-json", "-count=1", "-tags", "realbroker", "-timeout", limit.String(), "-run", run}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./bridge/gateway", "-broker", kind.Name)...)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var tests []*test
	byName := map[string]*test{}
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		var e struct{ Action, Test, Output, Key, Value string }
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return tests, fmt.Errorf("%s: %w", lines.Text(), err)
		}
		name, _, sub := strings.Cut(e.Test, "/")
		t := byName[name]
		if t == nil {
			t = &test{name: name}
			byName[name] = t
			tests = append(tests, t)
		}
		switch e.Action {
		case "output", "build-output":
			if !strings.Contains(e.Output, "level=DEBUG") {
				t.output.WriteString(e.Output)
			}
		case "attr":
			switch e.Key {
			case "expected":
				t.expected = e.Value
			case "seen":
				t.seen = e.Value
			}
		case "pass", "fail", "skip":
			if !sub {
				t.result = e.Action
			}
		}
	}
	err = cmd.Wait()
	for _, t := range tests {
		if t.result != "pass" && t.result != "skip" {
			fmt.Print(t.output.String()) // of the whole package, too, as when it does not compile
		}
	}
	return slices.DeleteFunc(tests, func(t *test) bool { return t.name == "" }), err
}

// print writes the rows of a broker, and reports whether all is as expected.
func print(out *tabwriter.Writer, kind brokers.Kind, tests []*test) (ok bool) {
	row := func(name, expected, seen string) {
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", name, kind.Name, expected, seen)
	}
	ok = true
	passed := 0
	for _, t := range tests {
		failed := t.result != "pass" && t.result != "skip"
		ok = ok && !failed
		switch why := kind.Skips[t.name]; {
		case t.expected != "" && failed:
			row(t.name, t.expected, "FAILED: "+t.seen)
		case t.expected != "":
			row(t.name, t.expected, t.seen)
		case failed:
			row(t.name, "passes", "FAILED")
		case why != "":
			row(t.name, "not run: "+why, "not run")
		case t.result == "pass":
			passed++
		}
	}
	row(fmt.Sprintf("%d others", passed), "pass", "pass")
	return ok && passed > 0
}
