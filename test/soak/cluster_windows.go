package soak

// clusterScenarios need signals that Windows has not.
func clusterScenarios() []Scenario { return nil }
