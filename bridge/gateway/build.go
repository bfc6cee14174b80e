package gateway

import (
	"runtime/debug"
)

// Build says which fleetbridge this is.
type Build struct {
	Version string // v1.2.3, or devel
	Commit  string // empty when it is not known
}

// ReadBuild fills in, from what the Go toolchain noted in the binary, what the linker did not set.
func ReadBuild(version, commit string) Build {
	b := Build{version, commit}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b.orUnknown()
	}
	if v := info.Main.Version; b.Version == "" && v != "(devel)" {
		b.Version = v
	}
	dirty := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && b.Commit == "":
			b.Commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true" && commit == "":
			dirty = "-dirty"
		}
	}
	if b.Commit != "" {
		b.Commit += dirty
	}
	return b.orUnknown()
}

func (b Build) orUnknown() Build {
	if b.Version == "" {
		b.Version = "devel"
	}
	return b
}
