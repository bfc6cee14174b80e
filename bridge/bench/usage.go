package bench

import "time"

// Usage is what a process has spent, or spent between two looks.
type Usage struct {
	CPU    time.Duration // user and system
	Memory int64         // resident bytes now; 0: not known on this system
}

func (u Usage) since(before Usage) Usage { return Usage{u.CPU - before.CPU, u.Memory} }
