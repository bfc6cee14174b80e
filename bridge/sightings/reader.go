package sightings

// Reader is a tail for whoever shows it.
type Reader struct {
	recorder *Recorder
	tail     *tail
}

// Read opens a tail. last is the number of the last record that the reader has seen, 0: none; the tail goes on behind that one,
// or begins now. lost reports whether records behind last are gone already. reader is nil when there are maxTails already, or
// the bridge stops.
func (r *Recorder) Read(f Filter, last uint64) (reader *Reader, lost bool) {
	t := r.open(f)
	if t == nil {
		return nil, false
	}
	if last > 0 {
		lost = r.rewind(t, last)
	}
	return &Reader{r, t}, lost
}

// rewind makes a tail go on behind a record, if the ring still has what follows it.
func (r *Recorder) rewind(t *tail, last uint64) (lost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last >= r.next {
		return last > r.next-1
	}
	first := r.next
	if len(r.ring) > 0 {
		first = r.ring[0].number
	}
	t.next = max(last+1, first)
	select {
	case t.wake <- struct{}{}:
	default:
	}
	return first > last+1
}

// Wake is sent to when there is something to read.
func (r *Reader) Wake() <-chan struct{} { return r.tail.wake }

// Next appends what came since the last call to out, the oldest first, and returns what of that which the filter picks
// was not kept.
func (r *Reader) Next(out []*Record) (_ []*Record, skipped Gap) {
	for more := true; more; {
		var some []*Record
		var gap Gap
		some, gap, more = r.recorder.read(r.tail, nil)
		out, skipped = append(out, some...), skipped.Add(gap)
	}
	return out, skipped
}

// Close ends it.
func (r *Reader) Close() { r.recorder.close(r.tail) }

// Number is that of a record in this run of the bridge. The first is 1.
func (r *Record) Number() uint64 { return r.number }
