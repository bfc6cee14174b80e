package storedir

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

const operatorFile = "operator.nk"

// OperatorKey reads the operator's key from the store directory, or makes one. The file is readable by
// its owner only: a key that others put there, or could read, is made anew, and said.
func OperatorKey(dir string, log *slog.Logger) (nkeys.KeyPair, error) {
	path := filepath.Join(dir, operatorFile)
	if err := privateFile(path); err == nil {
		if seed, err := os.ReadFile(path); err == nil {
			if key, err := nkeys.FromSeed(bytes.TrimSpace(seed)); err == nil {
				return key, nil
			}
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		log.Warn("the operator's key could be known to others, and is made anew", "reason", err)
	}
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	seed, err := key.Seed()
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(append(seed, '\n'))
	return key, errors.Join(err, f.Close())
}

// RemoveOperator removes the key where there are no users: then nobody needs one.
func RemoveOperator(dir string) error { return os.RemoveAll(filepath.Join(dir, operatorFile)) }

// OperatorLogin is the option with which `fleetbridge dead` connects to an embedded server whose store
// directory it can read. Without such a file, the server has no users and needs no login.
func OperatorLogin(storeDir string) (nats.Option, error) {
	path := filepath.Join(storeDir, operatorFile)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return func(*nats.Options) error { return nil }, nil
	}
	if err := regular(path); err != nil {
		return nil, fmt.Errorf("operator login: %w", err)
	}
	option, err := nats.NkeyOptionFromSeed(path)
	if err != nil {
		return nil, fmt.Errorf("operator login %s: %w", path, err)
	}
	return option, nil
}

// regular refuses what would be waited for when it is read.
func regular(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no ordinary file (%s); remove it and start the bridge again, which makes a new key", path, info.Mode().Type())
	}
	return nil
}
