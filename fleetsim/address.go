package fleetsim

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports that systems give to nobody who asks for any: these are below what Linux, macOS and Windows take for that.
const (
	quietFrom = 20000
	quietTo   = 32000
)

// Address is FreeAddress for a test, which fails when there is none.
func Address(t T) string {
	t.Helper()
	address, err := FreeAddress()
	if err != nil {
		t.Fatalf("%v", err)
	}
	return address
}

// FreeAddress returns a loopback address that nobody listens on. Who has to name an address before somebody listens on it,
// or again after that, uses it: a port that was given by chance and closed is soon given to somebody else.
func FreeAddress() (string, error) {
	for range 1000 {
		address := fmt.Sprint("127.0.0.1:", quietFrom+rand.IntN(quietTo-quietFrom))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address, nil
		}
	}
	return "", fmt.Errorf("no free port from %d to %d", quietFrom, quietTo)
}
