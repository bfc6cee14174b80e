//go:build manpages

package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// extraCommands adds the command that writes the manual pages, which is run once, when packages are made:
// what turns Markdown into roff has no place on a gateway.
func extraCommands(streams) []*cobra.Command {
	return []*cobra.Command{{
		Use:    "man DIR",
		Hidden: true,
		Args:   between(1, 1, "DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			c.Root().DisableAutoGenTag = true
			return doc.GenManTree(c.Root(), &doc.GenManHeader{Section: "1", Source: "fleetbridge", Manual: "fleetbridge manual"}, args[0])
		},
	}}
}
