// Package gateway puts a gateway together: its configuration, its health and
// metrics, and Run, which wires the edges to the core.
//
// Configuration goes through four steps: defaults, strict decoding, validation of
// everything, and only then action. Load does the first three; it reads the files
// that the configuration names and touches nothing else.
package gateway
