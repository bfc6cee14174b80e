package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"fleetbridge/bridge/local/access"
	"fleetbridge/mapping"
)

func newACL(s streams) *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:     "acl [--config FILE]",
		Example: "  fleetbridge acl > accounts.conf    # include it in nats-server.conf",
		Short:   "Print local.users as accounts of an external NATS server",
		Long: "Print local.users as the accounts block of a nats-server configuration: one account for the bridge, which holds\n" +
			"the streams, and one for each user, with the rights that the embedded server would give. Passwords are printed\n" +
			"as bcrypt hashes. The bridge logs in with the user and password of nats.url; if there are none, the server takes\n" +
			"the password of the user fleetbridge from its environment, FLEETBRIDGE_PASSWORD.",
		Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(c, &config)
			if err != nil {
				return err
			}
			if cfg.NATS.CredsFile != "" {
				return fmt.Errorf("%s: nats.creds_file: belongs to a server whose accounts are made with nsc; acl prints accounts for a configuration file, use a user and password in nats.url", config)
			}
			subjects, err := mapping.NewSubjects(cfg.NATS.Prefix)
			if err != nil {
				return err
			}
			return access.ACL{URL: string(cfg.NATS.URL), Users: cfg.LocalUsers(), Subjects: subjects}.Print(s.out)
		},
	}
	configFlag(c, &config)
	return c
}
