package bench

import "time"

// Usage is what a process has spent, or spent between two looks.
type Usage struct {
	CPU      time.Duration // user and system
	Memory   int64         // resident bytes now; 0: not known on this system
	Switches int64         // how often its threads had nothing to do and waited; 0: not known on this system
}

// Since is what was spent since an earlier look. Memory is that of now.
func (u Usage) Since(before Usage) Usage {
	return Usage{u.CPU - before.CPU, u.Memory, u.Switches - before.Switches}
}
