//go:build soakroot

package soak

// rootScenarios need root, for file systems of their own.
func rootScenarios() []Scenario {
	return []Scenario{
		{"power cut", "the disk keeps what was synced, and some of the rest; a sync makes earlier directory entries durable, too", func(w *World) { cutPower(w) }},
		{"power cut entries", "the same, but a sync keeps the directory entries of the synced file alone", func(w *World) { cutPower(w, "-entries=own") }},
		{"disk full", "the queue fills a disk of 24 MiB; something else fills it at once; room is made again", fullDisk},
		{"disk read-only", "the disk refuses every change (EROFS, EIO), while the bridge works and when it starts", readOnlyDisk},
		{"power cut sync 1s", "the disk keeps what was synced, once a second; telemetry of the last second is not counted", cutPowerInterval},
	}
}
