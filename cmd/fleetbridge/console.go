package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/sightings"
)

func newConsole(s streams) *cobra.Command {
	var config string
	var operator, revoke bool
	c := &cobra.Command{
		Use:     "console [--config FILE]",
		Example: "  sudo -u fleetbridge fleetbridge console --operator\n  docker exec gateway fleetbridge console",
		Short:   "Print a link that logs in to the console of a running bridge",
		Long: "Print a link that logs in to the console of a running bridge, the page at console.listen. The link works once,\n" +
			"within two minutes. The login lasts twelve hours, or until the bridge ends. Only the bridge's own user and root\n" +
			"may ask for one.\n\n" +
			"From another machine: ssh -L 9322:127.0.0.1:9322 GATEWAY, and open the link there. With a container: docker\n" +
			"exec.",
		Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(c, &config)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), connectTimeout)
			defer cancel()
			q := url.Values{}
			if operator {
				q.Set("role", "operator")
			}
			if revoke {
				q.Set("revoke", "yes")
			}
			said, err := sightings.Tell(ctx, cfg.NATS.Embedded.StoreDir, "/console?"+q.Encode())
			if err != nil {
				return notWatched("console", cfg, err)
			}
			var answer struct{ Link string }
			if err := json.Unmarshal(said, &answer); err != nil {
				return fmt.Errorf("console: the bridge is of another version: %w", err)
			}
			_, err = fmt.Fprintln(s.out, answer.Link)
			return err
		},
	}
	configFlag(c, &config)
	c.Flags().BoolVar(&operator, "operator", false, "who logs in may do what console.actions lists, and see the configuration")
	c.Flags().BoolVar(&revoke, "revoke", false, "end all logins before")
	return c
}

// greet prints a link for whoever started the bridge in a terminal.
func greet(ctx context.Context, g *gateway.Gateway, s streams) {
	select {
	case <-g.Listening():
	case <-ctx.Done():
		return
	}
	if link, err := g.ConsoleLink(false); err == nil {
		fmt.Fprintf(s.err, "fleetbridge: console: %s (once, within two minutes; fleetbridge console prints another)\n", link)
	}
}
