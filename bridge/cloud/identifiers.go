package cloud

// reserve takes a free identifier for e; 0: none is free.
func (o *outbound) reserve(e *entry) uint16 {
	for range 1<<16 - 1 {
		if o.lastID++; o.lastID == 0 {
			o.lastID = 1
		}
		if _, used := o.ids[o.lastID]; !used {
			o.ids[o.lastID] = e
			return o.lastID
		}
	}
	return 0
}

// reserveLast takes the highest free identifier, for a SUBSCRIBE; 0: none is free. Some brokers refuse an identifier that
// a message of their own has, and they count from 1.
func (o *outbound) reserveLast() uint16 {
	for id := uint16(1<<16 - 1); id > 0; id-- {
		if _, used := o.ids[id]; !used {
			o.ids[id] = nil
			return id
		}
	}
	return 0
}

// release frees a SUBSCRIBE's identifier.
func (o *outbound) release(id uint16) {
	if e, used := o.ids[id]; used && e == nil {
		delete(o.ids, id)
	}
}
