package main

import (
	"cmp"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"fleetbridge/bridge/gateway"
)

// Set by the linker: -X main.version=v1.2.3 -X main.commit=….
var version, commit string

func newVersion(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit and Go version",
		Args:  between(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(s.out, versionLine())
			return err
		},
	}
}

func versionLine() string {
	b := gateway.ReadBuild(version, commit)
	return fmt.Sprintf("fleetbridge %s, commit %s, %s %s/%s",
		b.Version, cmp.Or(b.Commit, "unknown"), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
