package storedir

import "io/fs"

// ownersMatter: modes say nothing here.
const ownersMatter = false

func ownerOf(fs.FileInfo) (uid int, ok bool) { return 0, false }
