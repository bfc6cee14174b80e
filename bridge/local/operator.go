package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

const operatorFile = "operator.nk"

// operatorKey reads the operator's key from the store directory, or makes one. The file is readable by
// its owner only.
func operatorKey(dir string) (nkeys.KeyPair, error) {
	path := filepath.Join(dir, operatorFile)
	if seed, err := os.ReadFile(path); err == nil {
		if key, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed)))); err == nil {
			return key, nil
		}
	}
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	seed, err := key.Seed()
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return key, os.WriteFile(path, append(seed, '\n'), 0o600)
}

// OperatorLogin is the option with which `fleetbridge dead` connects to an embedded server whose store
// directory it can read. Without such a file, the server has no users and needs no login.
func OperatorLogin(storeDir string) (nats.Option, error) {
	path := filepath.Join(storeDir, operatorFile)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return func(*nats.Options) error { return nil }, nil
	}
	option, err := nats.NkeyOptionFromSeed(path)
	if err != nil {
		return nil, fmt.Errorf("operator login %s: %w", path, err)
	}
	return option, nil
}
