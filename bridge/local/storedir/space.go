package storedir

// maxReserve is how much of the disk the queues leave free at most: what is queued must still be
// delivered and settled, and that takes room, too.
const maxReserve = 64 << 20

// leastReserve is what JetStream needs to start and to work with.
const leastReserve = 4 << 20

// Space is how much of a directory's disk is free for us, how large it is, and how much free space the queues leave. After
// an error, such as errors.ErrUnsupported where a system does not say, that is what they leave at least.
func Space(dir string) (free, total, kept uint64, err error) {
	if free, total, err = space(dir); err != nil {
		return 0, 0, leastReserve, err
	}
	return free, total, min(maxReserve, max(leastReserve, total/20)), nil
}
