package journal

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// FS is the disk, as far as a journal needs it. Names are paths. OS returns the real one.
type FS interface {
	// MakeDir makes a directory that survives a power cut; it may be there already.
	MakeDir(dir string) error
	// List returns the names in a directory, without it.
	List(dir string) ([]string, error)
	// Create makes a file of size bytes, for all of which there is room on the disk from then on. They read as zeros.
	// The file may be gone after a power cut until its directory is synced.
	Create(name string, size int64) (File, error)
	// Open opens a file for reading and writing.
	Open(name string) (File, error)
	// Rename renames a file, or nothing is changed. It may be undone by a power cut until the directory is synced.
	Rename(from, to string) error
	// Remove removes a file. It may be undone by a power cut until the directory is synced.
	Remove(name string) error
	// SyncDir makes what was created, renamed and removed in a directory survive a power cut.
	SyncDir(dir string) error
	// Space returns how many bytes of the disk are free, and how many it has.
	Space(dir string) (free, total int64, err error)
	// Lock makes the file and locks it until the result is closed. An error that is ErrLocked: somebody else has it.
	Lock(name string) (io.Closer, error)
}

// File is an open file of an FS.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Size returns the length in bytes.
	Size() (int64, error)
	// Sync returns when everything that was written survives a power cut.
	Sync() error
}

// OS returns the file system of the operating system.
func OS() FS { return osFS{flags: os.O_RDWR} }

type osFS struct{ flags int }

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) Sync() error { return syncData(f.File) }

func (fs osFS) MakeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return fs.SyncDir(filepath.Dir(filepath.Clean(dir)))
}

func (osFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

func (osFS) Create(name string, size int64) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	err = allocate(f, size)
	if errors.Is(err, errors.ErrUnsupported) {
		err = fill(f, size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(name))
	}
	return osFile{f}, nil
}

// fill allocates by writing.
func fill(f *os.File, size int64) error {
	zeros := make([]byte, 64<<10)
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at); err != nil {
			return err
		}
	}
	return nil
}

func (fs osFS) Open(name string) (File, error) {
	f, err := os.OpenFile(name, fs.flags, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }
func (osFS) Remove(name string) error     { return os.Remove(name) }

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := tryLock(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
