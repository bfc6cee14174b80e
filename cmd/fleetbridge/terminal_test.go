package main

import (
	"bytes"
	"os"
	"testing"
)

// device is an output that says of itself what the file with a name does.
type device struct {
	bytes.Buffer
	name string
}

func (d *device) Stat() (os.FileInfo, error) { return os.Stat(d.name) }

func TestPayloadOnATerminal(t *testing.T) {
	const payload = "{\"a\":\t\"\x1b]0;owned\a\x1b[2J\u009b\u202eü\xff\"}\r\n"
	for name, want := range map[string]string{
		os.DevNull:  `{"a":` + "\t" + `"\x1b]0;owned\a\x1b[2J\u009b\u202eü\xff"}\r` + "\n",
		t.TempDir(): payload,
	} {
		if got := string(shown(&device{name: name}, []byte(payload))); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := string(shown(&bytes.Buffer{}, []byte(payload))); got != payload {
		t.Errorf("got %q", got)
	}
}
