//go:build !manpages

package main

import "github.com/spf13/cobra"

// extraCommands are those of a build for packaging; this is none.
func extraCommands() []*cobra.Command { return nil }
