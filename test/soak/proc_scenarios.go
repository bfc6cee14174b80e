package soak

import "slices"

// procScenarios are those that need the bridge as a process of its own.
func procScenarios() []Scenario {
	return slices.Concat([]Scenario{
		{"kill -9", "the bridge is killed at random moments, also during its start, under load in both directions; same store", killAgain},
		{"SIGTERM", "the bridge is stopped and started under load in both directions; nothing may be repeated either", stopAgain},
		{"start under fire", "programs publish from before the bridge starts, the cloud comes later", startUnderFire},
		{"backlog", "10,000 messages (100,000 with -soak) wait for the broker, and the bridge is restarted", backlog},
		{"damaged store", "while the bridge is down, files of a queue are truncated, changed, emptied or removed; what is lost by that must be reported, and is not counted", damageStore},
	}, rootScenarios())
}
