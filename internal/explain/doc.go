// Package explain says in words what channels, payloads and messages are about: for the command line and the console,
// which say the same.
package explain
