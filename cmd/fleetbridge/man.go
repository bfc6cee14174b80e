//go:build manpages

package main

import (
	"github.com/spf13/cobra"

	"fleetbridge/internal/manual"
)

// extraCommands adds the command that writes the manual pages, which is run once, when packages are made.
func extraCommands(streams) []*cobra.Command {
	return []*cobra.Command{{
		Use:    "man DIR",
		Hidden: true,
		Args:   between(1, 1, "DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			return manual.Write(c.Root(), args[0],
				manual.Section{Title: "FILES", For: configured, Lines: [][2]string{
					{"fleetbridge.yaml", "in the working directory: the configuration, if neither --config nor FLEETBRIDGE_CONFIG names one"},
					{"/etc/fleetbridge/fleetbridge.yaml", "the configuration, if that is not there either; the service of the packages uses it"},
					{"/etc/fleetbridge/environment", "variables of that service"},
					{"fleetbridge-data", "the store, beside the configuration, unless nats.embedded.store_dir names another; with the packages /var/lib/fleetbridge. Nobody but the bridge's user may read it"},
				}},
				manual.Section{Title: "ENVIRONMENT", For: configured, Lines: [][2]string{
					{configVariable, "the configuration, if --config names none"},
					{"NAME", "a value of the configuration that is written ${NAME}"},
					{"OTEL_EXPORTER_OTLP_HEADERS, OTEL_RESOURCE_ATTRIBUTES, ...", "what OpenTelemetry's libraries read, with traces.endpoint"},
					{"GOMEMLIMIT", "the memory limit of Go's runtime, in the place of that of limits.memory"},
				}},
				manual.Section{Title: "EXIT STATUS", Lines: [][2]string{{"0", "done"}, {"1", "it failed, or found something wrong; standard error says what"}, {"2", "the command line is wrong"}}},
			)
		},
	}}
}

// configured reports whether a command reads the configuration; the first page has it for all.
func configured(c *cobra.Command) bool { return !c.HasParent() || c.Flags().Lookup("config") != nil }
