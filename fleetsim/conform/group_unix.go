//go:build unix

package conform

import (
	"os/exec"
	"syscall"
)

// ownGroup gives a program a session of its own, with all its children.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

func killGroup(cmd *exec.Cmd) {
	for { // a child may make another one meanwhile
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		left := session(cmd.Process.Pid)
		if len(left) == 0 {
			return
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func groupLives(cmd *exec.Cmd) bool { return len(session(cmd.Process.Pid)) > 0 }
