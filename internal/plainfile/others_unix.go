//go:build !windows

package plainfile

const hasOthers = true
