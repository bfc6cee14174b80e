package gateway

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"

	"fleetbridge/internal/plainfile"
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

// fileError says in a few words why a file can't be used.
func fileError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not be read by this user", path)
	}
	if refused := (*plainfile.Refused)(nil); errors.As(err, &refused) {
		return err
	}
	if inner := (*fs.PathError)(nil); errors.As(err, &inner) {
		err = inner.Err
	}
	return fmt.Errorf("%s can't be read: %w", path, err)
}
