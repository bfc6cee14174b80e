package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// place puts a text between the markers of its name in a document: <!-- name:begin -->, <!-- name:end -->.
func place(path, name, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	whole, err := between(string(old), name, text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(whole), 0o644)
}

func between(whole, name, text string) (string, error) {
	begin, end := "<!-- "+name+":begin -->\n", "<!-- "+name+":end -->"
	head, rest, ok := strings.Cut(whole, begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", errors.New("no place for it: " + strings.TrimSpace(begin) + " … " + end)
	}
	return head + begin + strings.TrimRight(text, "\n") + "\n" + end + tail, nil
}
