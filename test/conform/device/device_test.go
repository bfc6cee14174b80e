//go:build unix

package main

import (
	"context"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"fleetbridge/fleetsim"
	"fleetbridge/fleetsim/conform"
)

// With -bridge FILE, a built fleetbridge, every mistake is made, by MQTT and by NATS; else only a few by MQTT.
var bridge = flag.String("bridge", "", "a built fleetbridge, `FILE`: make every mistake")

// The test is the program under test, too: it starts itself.
const asDevice = "CONFORM_TEST_DEVICE"

func TestMain(m *testing.M) {
	if os.Getenv(asDevice) != "" {
		main()
		return
	}
	fleetsim.Hurry()
	_ = os.Setenv(asDevice, "yes") // for children
	os.Exit(m.Run())
}

// failed takes a device through the list and returns the checks that it fails.
func failed(t *testing.T, over, mistake string) []string {
	t.Helper()
	data, err := os.ReadFile("device.json")
	if err != nil {
		t.Fatal(err)
	}
	device, err := conform.ReadDevice(data)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var said strings.Builder
	o := conform.Options{
		Device: device, Program: []string{os.Args[0], "-over", over, "-mistake", mistake}, Out: &said,
		Patience: 30 * time.Second, Settle: 300 * time.Millisecond, Outage: 300 * time.Millisecond,
	}
	if mistake != "" {
		o.Patience = 5 * time.Second // something will be waited for in vain
	}
	if over == "nats" {
		o.Bridge, o.Login = *bridge, true
	}
	if *bridge != "" {
		o.Settle = time.Second // so many programs at once are slow to make their mistakes
	}
	report, err := conform.Run(ctx, o)
	if err != nil {
		t.Fatalf("%v\n%s%s", err, said.String(), report.Output)
	}
	t.Log("\n" + said.String())
	var out []string
	for _, r := range report.Results {
		if r.Failure != "" {
			out = append(out, r.Check)
		}
		if r.Skipped != "" {
			t.Errorf("%s was skipped: %s", r.Check, r.Skipped)
		}
	}
	return out
}

func TestNoMistake(t *testing.T) {
	t.Parallel()
	for over := range mistakes {
		if over == "nats" && *bridge == "" {
			continue
		}
		t.Run(over, func(t *testing.T) {
			t.Parallel() // it waits more than it works
			if out := failed(t, over, ""); len(out) > 0 {
				t.Errorf("failed: %q", out)
			}
		})
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for over, all := range mistakes {
		for mistake, want := range all {
			if *bridge == "" && (over == "nats" || !slices.Contains([]string{"qos-0", "exit-code"}, mistake)) {
				continue
			}
			t.Run(over+"/"+mistake, func(t *testing.T) {
				t.Parallel() // it waits more than it works
				if out := failed(t, over, mistake); !slices.Contains(out, want) {
					t.Errorf("failed: %q, want %q among them", out, want)
				}
			})
		}
	}
}
