package main

import (
	"bytes"
	"os"
	"testing"
)

// Only a terminal gets colours, and only when nothing asks for plain text.
func TestColoured(t *testing.T) {
	terminal, err := os.Open(os.DevNull) // a character device, as a terminal is
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	env := func(pairs ...string) func(string) string {
		return func(key string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == key {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	if !coloured(terminal, env("TERM", "xterm")) {
		t.Error("a terminal is plain")
	}
	for name, got := range map[string]bool{
		"NO_COLOR": coloured(terminal, env("TERM", "xterm", "NO_COLOR", "1")),
		"dumb":     coloured(terminal, env("TERM", "dumb")),
		"file":     coloured(file, env("TERM", "xterm")),
		"buffer":   coloured(&bytes.Buffer{}, env("TERM", "xterm")),
	} {
		if got {
			t.Errorf("%s is coloured", name)
		}
	}
}
