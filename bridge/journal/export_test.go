package journal

// DumpFS is Dump of a simulated disk.
var DumpFS = dump

// OtherVersion puts a segment of the next format version on a disk.
func OtherVersion(fs FS) FS {
	f, err := fs.Create(fileName(1), 64<<10)
	if err != nil {
		panic(err)
	}
	b := appendFrame(nil, seed(0, 1), markHeader, func(b []byte) []byte { return append(b, formatVersion+1) })
	if _, err := f.WriteAt(b, 0); err != nil {
		panic(err)
	}
	return fs
}
