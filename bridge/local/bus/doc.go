// Package bus carries what users say to each other on the subjects of local.bus. The gateway runs one Bus, with users only, on a
// connection of its own; the means for it are among what access grants. It keeps no lock: each subscription has its goroutine,
// and what a goroutine changes is its own.
package bus
