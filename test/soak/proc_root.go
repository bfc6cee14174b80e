//go:build soakroot

package soak

// rootScenarios need root, for file systems of their own.
func rootScenarios() []Scenario {
	return []Scenario{
		{Name: "power cut", Faults: "the disk keeps what was synced, and some of the rest; a sync makes earlier directory entries durable, too", Run: func(w *World) { cutPower(w) }},
		{Name: "power cut entries", Faults: "the same, but a sync keeps the directory entries of the synced file alone", Run: func(w *World) { cutPower(w, "-entries=own") }},
		{Name: "disk full", Faults: "the queue fills a disk of 24 MiB; something else fills it at once; room is made again", Run: fullDisk},
		{Name: "disk read-only", Faults: "the disk refuses every change (EROFS, EIO), while the bridge works and when it starts", Run: readOnlyDisk},
		{Name: "power cut sync 1s", Faults: "the disk keeps what was synced, once a second; telemetry of the last second is not counted", Run: cutPowerInterval},
	}
}
