package soak

import "slices"

// procScenarios are those that need the bridge as a process of its own.
func procScenarios() []Scenario {
	return slices.Concat([]Scenario{
		{Name: "kill -9", Common: true, Faults: "the bridge is killed at random moments, also during its start, under load in both directions; same store", Run: killAgain},
		{Name: "SIGTERM", Faults: "the bridge is stopped and started under load in both directions; nothing may be repeated either", Run: stopAgain},
		{Name: "start under fire", Faults: "programs publish from before the bridge starts, the cloud comes later", Run: startUnderFire},
		{Name: "backlog", Faults: "10,000 messages (100,000 with -soak) wait for the broker, and the bridge is restarted", Run: backlog},
		{Name: "damaged store", Faults: "while the bridge is down, files of a queue are truncated, changed, emptied or removed; what is lost by that must be reported, and is not counted", Run: damageStore},
	}, rootScenarios())
}
