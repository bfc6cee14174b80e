//go:build !soakroot

package soak

// rootScenarios are in the build with the tag soakroot, as they need root: make soak-root.
func rootScenarios() []Scenario { return nil }
