package flow

// Signal wakes whoever waits, or the next to wait.
func Signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
