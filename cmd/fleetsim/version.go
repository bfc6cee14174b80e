package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Set by the linker: -X main.version=v1.2.3 -X main.commit=….
var version, commit string

func newVersion(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit and Go version",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(s.out, versionLine())
			return err
		},
	}
}

// versionLine completes what the linker was told by what the Go toolchain noted in the binary.
func versionLine() string {
	v, from := version, commit
	if info, ok := debug.ReadBuildInfo(); ok {
		if noted := info.Main.Version; noted != "(devel)" {
			v = cmp.Or(v, noted)
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				from = cmp.Or(from, s.Value)
			}
		}
	}
	return fmt.Sprintf("fleetsim %s, commit %s, %s %s/%s",
		cmp.Or(v, "devel"), cmp.Or(from, "unknown"), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
