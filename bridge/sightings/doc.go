// Package sightings lets people look at messages as they pass: what bridge.Watch tells is kept in a bounded ring while
// somebody looks, and served on a Unix socket that only the bridge's own user can open.
package sightings
