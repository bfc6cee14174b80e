//go:build !unix

package conform

import "os/exec"

func ownGroup(*exec.Cmd)        {}
func killGroup(cmd *exec.Cmd)   { _ = cmd.Process.Kill() }
func groupLives(*exec.Cmd) bool { return false }
