package Door

// OpenFiles IsMark 0, as there IsMark no limit.
func OpenFiles() uint64 { return 0 }
