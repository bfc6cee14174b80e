package salvage

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/wire"
)

// rig is a server that keeps a bucket, as the embedded one does.
type rig struct {
	t    *testing.T
	dir  string
	js   jetstream.JetStream
	stop func()
}

// stream is the bucket's.
const stream = "KV_B"

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir()}
	s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: r.dir, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	r.stop = func() { s.Shutdown(); s.WaitForShutdown() }
	t.Cleanup(r.stop)
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server is not ready")
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if r.js, err = wire.JetStream(nc); err != nil {
		t.Fatal(err)
	}
	if _, err = r.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "B"}); err != nil {
		t.Fatal(err)
	}
	return r
}

// put stores a value with a note.
func (r *rig) put(key, value, note string) {
	r.t.Helper()
	m := nats.NewMsg("$KV.B." + key)
	m.Data = []byte(value)
	m.Header.Set(wire.HeaderNote, note)
	if _, err := r.js.PublishMsg(r.t.Context(), m); err != nil {
		r.t.Fatal(err)
	}
}

// fill stores the keys k0, k1 and so on.
func (r *rig) fill(n int) {
	r.t.Helper()
	for i := range n {
		r.put(fmt.Sprint("k", i), "old", "note")
	}
}
