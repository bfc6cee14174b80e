package main

import (
	"strings"

	"github.com/spf13/cobra"

	"fleetbridge/bridge/gateway"
	"fleetbridge/internal/asyncapi"
	"fleetbridge/mapping"
)

func newAsyncAPI(s streams) *cobra.Command {
	var config, prefix string
	var asJSON bool
	c := &cobra.Command{
		Use:     "asyncapi",
		Example: "  fleetbridge asyncapi --config fleetbridge.yaml > gateway.asyncapi.yaml",
		Short:   "Print every NATS channel as an AsyncAPI 3 document",
		Long: "Print every NATS channel that programs use, with its messages and schemas, as an AsyncAPI 3 document, from the\n" +
			"side of a program. With --config it has the prefix, the Things and the server of that configuration.",
		Args: between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if config != "" && c.Flags().Changed("prefix") {
				return usagef("asyncapi: --config and --prefix are both given, keep one")
			}
			o := asyncapi.Options{}
			if config != "" {
				cfg, err := loadConfig(c, &config)
				if err != nil {
					return err
				}
				prefix = cfg.NATS.Prefix
				describeServer(&o, cfg)
			}
			var err error
			if o.Subjects, err = mapping.NewSubjects(prefix); err != nil {
				return usagef("asyncapi: --prefix: %s", err)
			}
			doc, err := asyncapi.New(o)
			if err != nil {
				return err
			}
			print := doc.YAML
			if asJSON {
				print = doc.JSON
			}
			text, err := print()
			if err != nil {
				return err
			}
			_, err = s.out.Write(text)
			return err
		},
	}
	ownConfigFlag(c, &config)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON instead of YAML")
	c.Flags().StringVar(&prefix, "prefix", "fleets", "subject `PREFIX`")
	return c
}

// describeServer fills in what a configuration knows.
func describeServer(o *asyncapi.Options, cfg *gateway.Config) {
	for _, t := range cfg.Things {
		o.Things = append(o.Things, mapping.Thing(t.Name))
	}
	o.Host, o.Secure = cfg.NATS.Embedded.Listen, cfg.NATS.Embedded.TLS != (gateway.ListenTLS{})
	if cfg.NATS.URL != "" {
		first, _, _ := strings.Cut(string(cfg.NATS.URL), ",")
		scheme, host, _ := strings.Cut(first, "://")
		o.Host, o.Secure = host[strings.LastIndexByte(host, '@')+1:], scheme == "tls" // without a login
	}
}
