package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"unicode/utf8"
)

// jsonLines prints one JSON object a line, for other programs.
func jsonLines(w io.Writer) *json.Encoder {
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false)
	return lines
}

// payloadJSON is a payload as a member of such an object: text, or base64 if it is no UTF-8.
type payloadJSON struct {
	Payload *string `json:"payload,omitempty"`
	Base64  []byte  `json:"payloadBase64,omitempty"`
}

func newPayloadJSON(payload []byte) payloadJSON {
	if text := string(payload); utf8.ValidString(text) {
		return payloadJSON{Payload: &text}
	}
	return payloadJSON{Base64: payload}
}

// createNew opens a file that is not there yet. One that is stays as it is; the error tells the mend.
func createNew(path string, mode fs.FileMode, mend string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s is there already and stays as it is; %s", path, mend)
	}
	return f, err
}
