// Package bus carries messages between users on the subjects of local.bus. The gateway runs one Bus, with users only, on a
// connection of its own; package access makes the imports for it. It has no lock: each subscription has its goroutine, and
// what a goroutine changes is its own.
package bus
