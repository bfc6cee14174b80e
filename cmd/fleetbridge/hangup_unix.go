//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// hangups receives each SIGHUP until stop is called; several in a row may be one.
func hangups() (again <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}
