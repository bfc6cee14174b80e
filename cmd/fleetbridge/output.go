package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// jsonLines prints one JSON object a line, for other programs.
func jsonLines(w io.Writer) *json.Encoder {
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false)
	return lines
}

// createNew opens a file that is not there yet. One that is stays as it is; the error tells the mend.
func createNew(path string, mode fs.FileMode, mend string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s is there already and stays as it is; %s", path, mend)
	}
	return f, err
}
