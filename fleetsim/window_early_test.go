package fleetsim

import (
	"bytes"
	"errors"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// wireTap notes the identifiers of what is written.
type wireTap struct {
	ids    []uint16
	broken error
	closed bool
}

func (w *wireTap) Write(p []byte) (int, error) {
	w.ids = append(w.ids, publishID(p))
	return len(p), w.broken
}

func (w *wireTap) Close() error {
	w.closed = true
	return nil
}

func publishPacket(t *testing.T, id uint16, qos byte, dup bool) []byte {
	t.Helper()
	var b bytes.Buffer
	p := packets.Packet{
		ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos, Dup: dup},
		TopicName: "t", PacketID: id, Payload: make([]byte, 20_000),
	}
	if err := p.PublishEncode(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What is published while a session is being resumed comes after what the session held, and once.
func TestWindowWhileASessionIsResumed(t *testing.T) {
	tap := &wireTap{}
	w := window{to: tap, like: &Traits{}}
	w.connect(3, nil)
	for _, p := range []struct {
		id  uint16
		qos byte
		dup bool
	}{{7, 1, false}, {0, 0, false}, {4, 1, true}, {5, 1, true}, {6, 1, true}, {7, 1, true}, {8, 1, false}} {
		packet := publishPacket(t, p.id, p.qos, p.dup)
		if n, err := w.write(packet); n != len(packet) || err != nil {
			t.Fatal(n, err)
		}
		clear(packet) // the library uses its buffers again
	}
	step := func(do func(), want ...uint16) {
		t.Helper()
		do()
		if len(tap.ids) != len(want) {
			t.Fatalf("written: %d, want %d", tap.ids, want)
		}
		for i, id := range want {
			if tap.ids[i] != id {
				t.Fatalf("written: %d, want %d", tap.ids, want)
			}
		}
	}
	step(func() {}, 4, 5, 6)
	step(w.establish, 4, 5, 6)
	step(func() { w.acknowledge(9) }, 4, 5, 6) // nobody's
	step(func() { w.acknowledge(5) }, 4, 5, 6, 7, 0)
	tap.broken = errors.New("broken")
	step(func() { w.acknowledge(4) }, 4, 5, 6, 7, 0, 8)
	if !tap.closed {
		t.Error("a connection that cannot be written to stays open")
	}
}
