package bench

import (
	"time"

	"golang.org/x/sys/windows"
)

// SelfUsage is this process's. Its memory is not known.
func SelfUsage() (Usage, error) {
	var created, exited, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(windows.CurrentProcess(), &created, &exited, &kernel, &user); err != nil {
		return Usage{}, err
	}
	return Usage{CPU: span(kernel) + span(user)}, nil
}

// span reads a Filetime that counts from nothing, in units of 100 ns.
func span(f windows.Filetime) time.Duration {
	return time.Duration(int64(f.HighDateTime)<<32|int64(f.LowDateTime)) * 100
}
