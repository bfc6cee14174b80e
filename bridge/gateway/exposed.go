package gateway

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"fleetbridge/internal/plainfile"
)

// Exposure is a secret that every user of this machine can read or change.
type Exposure struct {
	At                 Problem // the key
	Path, Detail, Mend string  // the file, what is wrong with it, what to do
}

func (e Exposure) String() string {
	e.At.Message = e.Path + " " + e.Detail + ": " + e.Mend
	return e.At.String()
}

// open takes note of a secret's file that is open to others.
func (v *validator) open(at, path string, info fs.FileInfo) {
	if plainfile.Others(path, info)&0o6 != 0 {
		v.expose(at, path, Exposure{Detail: ofEverybody(info), Mend: "chmod 600 " + path})
	}
}

// openKey is open for a file that others have read already.
func (v *validator) openKey(at, path string) {
	if info, err := os.Stat(path); path != "" && err == nil {
		v.open(at, path, info)
	}
}

// written takes note of files of the configuration that hold secrets and are open to others.
func (v *validator) written() {
	seen := map[string]bool{}
	for _, at := range v.secrets {
		file := v.fileOf(at)
		info := v.infos[file]
		if seen[file] || info == nil {
			continue
		}
		seen[file] = true
		if plainfile.Others(file, info)&0o6 != 0 {
			v.expose(at, file, Exposure{Detail: "holds this secret, and " + ofEverybody(info), Mend: "chmod 640 " + file + ", or name a file of its own that is closed"})
		}
	}
}

func ofEverybody(info fs.FileInfo) string {
	return "is open to every user of this machine (mode " + info.Mode().Perm().String() + ")"
}

func (v *validator) expose(at, path string, e Exposure) {
	pos := v.nearest(at)
	_, within := v.shown(at)
	e.At, e.Path = Problem{File: pos.file, Line: pos.line, Column: pos.column, Path: within}, path
	v.Exposed = append(v.Exposed, e)
}

// namely keeps the text of a _file key out of the message if it does not look like a file's name: it may be the secret
// itself.
func namely(written string, err error) error {
	if strings.ContainsAny(written, `./\`) || !strings.HasSuffix(err.Error(), " does not exist") {
		return err
	}
	return errors.New("names a file that does not exist; if it is the secret itself, write it without _file")
}

// readSecret reads a file that a _file key names. Its last newline is not part of the secret.
func readSecret(path string) (Secret, fs.FileInfo, error) {
	file, err := plainfile.Read(path, "secret", maxSecretBytes)
	if err != nil {
		return "", nil, fileError(path, err)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(file.Data), "\n"), "\r")
	if text == "" {
		return "", nil, fmt.Errorf("%s is empty", path)
	}
	return Secret(text), file.Info, nil
}
