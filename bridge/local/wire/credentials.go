package wire

import (
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"fleetbridge/internal/plainfile"
)

// maxCredsBytes is many times what a user's token and seed take.
const maxCredsBytes = 64 << 10

// credentials reads the file at each connection, as nats.UserCredentials does, so that a renewed one is used.
func credentials(path string) nats.Option {
	read := func() ([]byte, error) {
		file, err := plainfile.Read(path, "credentials", maxCredsBytes)
		return file.Data, err
	}
	token := func() (string, error) {
		text, err := read()
		if err != nil {
			return "", err
		}
		return nkeys.ParseDecoratedJWT(text)
	}
	sign := func(nonce []byte) ([]byte, error) {
		text, err := read()
		if err != nil {
			return nil, err
		}
		key, err := nkeys.ParseDecoratedNKey(text)
		if err != nil {
			return nil, err
		}
		defer key.Wipe()
		return key.Sign(nonce)
	}
	return nats.UserJWT(token, sign)
}
