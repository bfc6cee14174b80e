package local

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"golang.org/x/crypto/bcrypt"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/mapping"
)

// TestFloodOfGuesses: wrong passwords for the same name, for others and for nobody's, in parallel, keep no right one out.
func TestFloodOfGuesses(t *testing.T) {
	t.Parallel()
	hash, err := access.User{Password: "secret"}.Hash(bcrypt.MinCost + 2)
	if err != nil {
		t.Fatal(err)
	}
	users := []access.User{{Name: "a", Password: hash, Things: []mapping.Thing{"a"}}, {Name: "b", Password: hash, Things: []mapping.Thing{"a"}},
		{Name: "c", Password: "secret", Things: []mapping.Thing{"a"}}}
	r := newRigWith(t, embedded.Config{Users: users}, StoreConfig{Things: []mapping.Thing{"a"}})
	r.journal.forgive(" - cid:", "more connections without a login")
	if !r.logsIn(nats.UserInfo("a", "secret")) {
		t.Fatal("no login")
	}
	var n atomic.Int32
	stop := besiege(r, 30, func(c net.Conn) {
		name := []string{"a", "nobody", "c", ""}[n.Add(1)%4]
		_, _ = fmt.Fprintf(c, `CONNECT {"user":%q,"pass":"x"}`+"\r\nPING\r\n", name)
		_, _ = c.Read(make([]byte, 2048))
		_, _ = c.Read(make([]byte, 2048))
	})
	defer stop()
	for _, name := range []string{"a", "b", "c"} { // known, first time, no hash
		if !r.logsIn(nats.UserInfo(name, "secret")) {
			t.Errorf("%s is kept out", name)
		}
	}
}
