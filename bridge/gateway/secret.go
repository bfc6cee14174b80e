package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
)

// Secret is a text that is never printed: every way of formatting, marshalling or logging it gives
// "[redacted]", or nothing when it is empty. string(s) is the text.
type Secret string

const redacted = "[redacted]"

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format covers every verb, %#v and %x too.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

func (s *Secret) UnmarshalText(text []byte) error {
	*s = Secret(text)
	return nil
}

// NATSURL is one or more NATS URLs joined by commas. They may carry a login, which is not printed.
// string(u) is the whole text.
type NATSURL string

func (u NATSURL) String() string {
	parts := strings.Split(string(u), ",")
	for i, p := range parts {
		at := strings.LastIndexByte(p, '@')
		if at < 0 {
			continue
		}
		scheme, _, found := strings.Cut(p[:at], "://")
		if !found {
			scheme = "nats"
		}
		parts[i] = scheme + "://" + redacted + p[at:]
	}
	return strings.Join(parts, ",")
}

// Format covers every verb.
func (u NATSURL) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, u.String()) }

func (u NATSURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

func (u NATSURL) LogValue() slog.Value { return slog.StringValue(u.String()) }

func (u *NATSURL) UnmarshalText(text []byte) error {
	*u = NATSURL(text)
	return nil
}

// maxSecretBytes keeps a mistaken path, such as a disk image, from being read whole.
const maxSecretBytes = 64 << 10

// readSecret reads a file that a _file key names. Its last newline is not part of the secret.
func readSecret(path string) (Secret, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fileError(path, err)
	}
	if info.IsDir() {
		return "", fmt.Errorf("%s is a directory, name a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fileError(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	switch {
	case err != nil:
		return "", fileError(path, err)
	case len(data) > maxSecretBytes:
		return "", fmt.Errorf("%s has more than 64KiB, which no secret needs", path)
	}
	data = bytes.TrimSuffix(data, []byte("\n"))
	data = bytes.TrimSuffix(data, []byte("\r"))
	if len(data) == 0 {
		return "", fmt.Errorf("%s is empty", path)
	}
	return Secret(data), nil
}

// fileError says in a few words why a file can't be used.
func fileError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not be read by this user", path)
	}
	if inner := (*fs.PathError)(nil); errors.As(err, &inner) {
		err = inner.Err
	}
	return fmt.Errorf("%s can't be read: %w", path, err)
}
