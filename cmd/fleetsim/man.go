//go:build manpages

package main

import (
	"github.com/spf13/cobra"

	"fleetbridge/internal/manual"
)

// extraCommands adds the command that writes the manual pages, which is run when packages are made.
func extraCommands() []*cobra.Command {
	return []*cobra.Command{{
		Use:    "man DIR",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return manual.Write(c.Root(), args[0],
				manual.Section{Title: "ENVIRONMENT", For: func(c *cobra.Command) bool { return !c.HasParent() }, Lines: [][2]string{
					{"FLEETSIM_API_KEY, FLEETSIM_API_SECRET", "what HTTP clients must present, if --api-key and --api-secret say nothing"},
				}},
				manual.Section{Title: "EXIT STATUS", Lines: [][2]string{{"0", "done"}, {"1", "it failed; standard error says why"}, {"2", "the command line is wrong"}}},
			)
		},
	}}
}
