//go:build !unix

package main

import "os"

// hangups never receives anything: there is no such signal here, and the file is followed all the same.
func hangups() (again <-chan os.Signal, stop func()) { return nil, func() {} }
