package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"fleetbridge/internal/doctor"
)

// examination is what the command line asks for.
type examination struct {
	config        string
	json, quiet   bool
	stay          bool
	timeout, step time.Duration
}

func newDoctor(s streams) *cobra.Command {
	var e examination
	c := &cobra.Command{
		Use:     "doctor [--config FILE]",
		Example: "  fleetbridge doctor\n  fleetbridge doctor --json | jq",
		Short:   "Connect to everything that a configuration names, and say what is wrong",
		Long: "Connect to everything that a configuration names, and check it: files with secrets, DNS, TCP, TLS, the clock;\n" +
			"for each Thing its MQTT login, subscriptions, permission to publish and session; then the limits of the queues,\n" +
			"the Fleets HTTP API, NATS, JetStream, and the disk. Each finding is one line, and says what to do. Exit code 1:\n" +
			"a check failed.\n\n" +
			"Doctor changes nothing. It does not acknowledge messages that wait at the broker, so they stay there. It\n" +
			"publishes only jobs/get, which is a question. While fleetbridge runs, doctor asks it instead of connecting,\n" +
			"because a second connection with a Thing's client id would end the first. It can't see a gateway on another\n" +
			"machine: use --no-connect then.",
		Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if e.timeout <= 0 || e.step <= 0 {
				return usagef("doctor: --timeout and --step-timeout must be more than 0")
			}
			return e.run(c, s)
		},
	}
	configFlag(c, &e.config)
	c.Flags().BoolVar(&e.json, "json", false, "print JSON: {\"healthy\":…,\"findings\":[…]}")
	c.Flags().BoolVarP(&e.quiet, "quiet", "q", false, "print only warnings and failures")
	c.Flags().BoolVar(&e.stay, "no-connect", false, "do not connect as the Things: another gateway may hold their sessions")
	c.Flags().DurationVar(&e.timeout, "timeout", 2*time.Minute, "how long all of it may take")
	c.Flags().DurationVar(&e.step, "step-timeout", 10*time.Second, "how long one step may take")
	return c
}

func (e examination) run(c *cobra.Command, s streams) error {
	cfg, err := loadConfig(c, &e.config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context(), e.timeout)
	defer cancel()
	all, counts := []doctor.Finding{}, map[doctor.Status]int{}
	add := func(f doctor.Finding) {
		counts[f.Status]++
		if e.quiet && f.Status != doctor.Warn && f.Status != doctor.Fail {
			return
		}
		if all = append(all, f); !e.json {
			fmt.Fprintln(s.out, printable(f.String()))
		}
	}
	d, err := doctor.New(cfg, doctor.Options{File: e.config, Stay: e.stay, Timeout: e.step}, add)
	if err != nil {
		return err
	}
	healthy := d.Run(ctx)
	if e.json {
		out := jsonLines(s.out)
		out.SetIndent("", "  ")
		if err := out.Encode(map[string]any{"healthy": healthy, "findings": all}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(s.out, "%d ok, %d warn, %d fail, %d skip\n", counts[doctor.OK], counts[doctor.Warn], counts[doctor.Fail], counts[doctor.Skip])
	}
	if !healthy {
		return errReported
	}
	return nil
}
