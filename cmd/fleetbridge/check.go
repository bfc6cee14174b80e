package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"fleetbridge/bridge/gateway"
)

func newCheck(s streams) *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:     "check [--config FILE]",
		Example: "  fleetbridge check && systemctl reload fleetbridge",
		Short:   "Validate configuration and schemas",
		Long: "Validate a configuration and the schemas that it names. Every problem is printed at once with its file,\n" +
			"line and path, and the exit code is 1. Warnings are printed too, among them one for each secret that every user\n" +
			"of this machine can read. No connection is opened, and nothing is changed.",
		Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(c, &config)
			if err != nil {
				return err
			}
			for _, w := range cfg.Warnings {
				fmt.Fprintf(s.err, "warning: %s\n", printable(fmt.Sprint(w)))
			}
			for _, e := range cfg.Exposed {
				fmt.Fprintf(s.err, "warning: %s\n", printable(fmt.Sprint(e)))
			}
			_, err = fmt.Fprint(s.out, summary(cfg))
			return err
		},
	}
	configFlag(c, &config)
	return c
}

// summary says in a few lines what a valid configuration asks for.
func summary(cfg *gateway.Config) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-10s%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	b.WriteString("OK\n")
	names, own := make([]string, len(cfg.Things)), 0
	for i, t := range cfg.Things {
		names[i] = t.Name
		if t.SchemaDir != "" || t.ThingType != "" || t.TypeName != "" {
			own++
		}
	}
	line("things", "%d: %s", len(names), strings.Join(names, ", "))
	if own > 0 {
		line("schemas", "of their own for %d of them", own)
	}
	brokers := make([]string, len(cfg.MQTT.Server))
	for i, s := range cfg.MQTT.Server {
		brokers[i] = s
		if base, _, query := strings.Cut(s, "?"); query { // it may be a token
			brokers[i] = base + "?…"
		}
	}
	line("broker", "%s", strings.Join(brokers, ", "))
	if cfg.NATS.URL != "" {
		line("nats", "%s", cfg.NATS.URL)
	} else {
		line("nats", "embedded, %s, stored in %s, %d users", cfg.NATS.Embedded.Listen, cfg.NATS.Embedded.StoreDir, len(cfg.Local.Users))
	}
	if cfg.Fleets.URL != "" {
		line("fleets", "%s", cfg.Fleets.URL)
	} else {
		line("fleets", "not configured: a shadow is unknown until the cloud sends it")
	}
	return b.String()
}
