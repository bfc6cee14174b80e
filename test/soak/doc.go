// Package soak breaks what a bridge depends on, again and again, and counts what becomes of the
// messages: a table of scenarios, each seeded and repeatable.
//
//	go test ./test/soak                              one scenario of each sort once, in short form
//	go test ./test/soak -all                         every one
//	go test ./test/soak -v -run Soak -soak 30m       repeatedly, with a new seed each round
//	go test ./test/soak -run Soak -only NAME -seed N one of them, as it was
//
// With -table FILE the result is written as Markdown, between the markers soak:begin and soak:end
// if the file has them. docs/reliability.md says what is counted and what it does not show; README.md, which mutation of the code each scenario sees.
package soak
