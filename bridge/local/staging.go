package local

import (
	"errors"
	"os"
	"path/filepath"
)

// Until an atomic batch is committed, the server keeps it in files beside its stream, makes a directory for
// each batch, and syncs all of that, at twenty times the price of the commit itself. Nothing depends on
// these files surviving a power cut: nobody has been told that the batch is stored, and whoever sent it
// sends it again. So they are put into memory, where there is a file system for that, by a link. Without
// one everything works the same, only slower.
//
// A process that is killed finds the files again, and the server completes the batch that it was about to
// commit. After a power cut such a batch may be stored in part.

// staging are the streams that take batches.
var staging = []string{streamDown, streamDead}

// stage puts the batches of the streams that take them into memory. It is called when the streams are
// there, after every start of JetStream: the server removes the link when it recovers a stream.
func (s *Server) stage() {
	memory, err := memoryDir(s.dir)
	for _, suffix := range staging {
		if err == nil {
			err = s.stageStream(memory, s.subjects.Name(suffix))
		}
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		s.log.Debug("batches are staged on the disk", "error", err)
	}
	s.mu.Lock()
	s.memory = memory
	s.mu.Unlock()
}

// keepStaged makes the directories in memory again if somebody has removed them, as systemd does at the last
// logout of a user. Until then each message is stored by itself.
func (s *Server) keepStaged() {
	s.mu.Lock()
	staged := s.memory != ""
	s.mu.Unlock()
	if !staged {
		return
	}
	memory, err := memoryDir(s.dir)
	for _, suffix := range staging {
		stream := s.subjects.Name(suffix)
		if err == nil {
			err = os.MkdirAll(filepath.Join(memory, stream), 0o700)
		}
		if err != nil { // it is somebody else's now
			_ = os.Remove(s.batches(stream))
		}
	}
}

// batches is where the server keeps the batches of a stream.
func (s *Server) batches(stream string) string {
	return filepath.Join(s.dir, "jetstream", "$G", "streams", stream, "batches")
}

func (s *Server) stageStream(memory, stream string) error {
	target := filepath.Join(memory, stream)
	if err := os.MkdirAll(target, 0o700); err != nil {
		return err
	}
	link := s.batches(stream)
	if _, err := os.Stat(filepath.Dir(link)); errors.Is(err, os.ErrNotExist) {
		return nil // no such stream
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // there is a batch in it
	}
	return os.Symlink(target, link)
}

// unstage leaves nothing behind but a batch that was being committed, for the next start.
func (s *Server) unstage() {
	if s.memory == "" {
		return
	}
	streams, _ := os.ReadDir(s.memory)
	for _, d := range streams {
		_ = os.Remove(filepath.Join(s.memory, d.Name())) // if it is empty
	}
	_ = os.Remove(s.memory)
}
