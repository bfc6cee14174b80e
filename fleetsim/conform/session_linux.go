package conform

import (
	"bytes"
	"os"
	"strconv"
)

// session lists the processes of a session by their numbers; a shell's jobs are process groups of their own.
func session(id int) []int {
	entries, _ := os.ReadDir("/proc")
	var all []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, _ := os.ReadFile("/proc/" + e.Name() + "/stat")
		// PID (NAME) STATE PARENT GROUP SESSION …, where NAME may hold anything.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 3 && string(fields[3]) == strconv.Itoa(id) && fields[0][0] != 'Z' {
			all = append(all, pid)
		}
	}
	return all
}
