package sightings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// ErrRefused is wrapped with what a bridge says that has no room for one more tail.
var ErrRefused = errors.New("the bridge refuses")

// Follow calls f for each line of a running bridge's tail, until f returns an error, the bridge goes away or ctx ends.
func Follow(ctx context.Context, storeDir string, filter Filter, f func(Line) error) error {
	return get(ctx, storeDir, "/tail?"+filter.query().Encode(), f)
}

// Kept returns what a running bridge keeps of what was seen, the oldest first.
func Kept(ctx context.Context, storeDir string) (out []*Record, err error) {
	err = get(ctx, storeDir, "/kept", func(l Line) error {
		if l.Record != nil {
			out = append(out, l.Record)
		}
		return nil
	})
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return out, err
}

// Ask returns another page of a running bridge, whole.
func Ask(ctx context.Context, storeDir, path string) (out []byte, err error) {
	return whole(ctx, storeDir, http.MethodGet, path)
}

// Tell has a running bridge do something, and returns what it says.
func Tell(ctx context.Context, storeDir, path string) (out []byte, err error) {
	return whole(ctx, storeDir, http.MethodPost, path)
}

func whole(ctx context.Context, storeDir, method, path string) (out []byte, err error) {
	err = open(ctx, storeDir, method, path, func(body io.Reader) error {
		const most = 16 << 20
		out, err = io.ReadAll(io.LimitReader(body, most))
		return err
	})
	return out, err
}

// get reads lines until they end, which is io.EOF.
func get(ctx context.Context, storeDir, path string, f func(Line) error) error {
	return open(ctx, storeDir, http.MethodGet, path, func(body io.Reader) error {
		lines := json.NewDecoder(body)
		for {
			var l Line
			if err := lines.Decode(&l); err != nil {
				return err
			}
			if err := f(l); err != nil {
				return err
			}
		}
	})
}

// open reads a page with f.
func open(ctx context.Context, storeDir, method, path string, f func(io.Reader) error) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, storeDir) }}
	defer transport.CloseIdleConnections()
	q, err := http.NewRequestWithContext(ctx, method, "http://fleetbridge"+path, nil)
	if err != nil {
		return err
	}
	answer, err := transport.RoundTrip(q)
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
		return fmt.Errorf("%w: %s", ErrRefused, strings.TrimSpace(string(said)))
	}
	return f(answer.Body)
}
