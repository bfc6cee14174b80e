package cloud

import (
	"bytes"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"

	"fleetbridge/bridge"
)

// FuzzPublish reads back what is written.
func FuzzPublish(f *testing.F) {
	f.Add("a/b", "{}", "00-1", "a=1", uint16(7), true)
	f.Add("ü", "", "", "", uint16(0), false)
	f.Add(strings.Repeat("t", 100), strings.Repeat("p", 1<<14), strings.Repeat("x", 200), "y", uint16(65535), false)
	f.Fuzz(func(t *testing.T, topic, payload, parent, state string, id uint16, dup bool) {
		if len(topic) > 1<<16-1 {
			t.Skip()
		}
		e := &entry{topic: topic, message: bridge.Message{Payload: []byte(payload), Trace: bridge.Trace{Parent: parent, State: state}}}
		b := appendPublish(nil, e, id, dup)
		if id != 0 && len(b) != publishSize(e) {
			t.Errorf("%d bytes, publishSize says %d", len(b), publishSize(e))
		}
		packet, err := packets.ReadPacket(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		p := packet.Content.(*packets.Publish)
		same(t, "topic", p.Topic, topic)
		same(t, "payload", string(p.Payload), payload)
		same(t, "identifier", p.PacketID, id)
		same(t, "DUP", p.Duplicate, dup && id != 0)
		same(t, "QoS", p.QoS == 1, id != 0)
		got := arrivalOf(t, b, 1<<20)
		want := bridge.Trace{}
		if sendable(parent) {
			want.Parent = parent
		}
		if sendable(state) {
			want.State = state
		}
		same(t, "trace", got.trace, want)
		same(t, "topic, as we read it", got.topic, topic[:min(len(topic), maxTopic)])
		same(t, "payload, as we read it", string(got.payload), payload)
		same(t, "identifier, as we read it", got.id, id)
		same(t, "DUP, as we read it", got.dup(), p.Duplicate)
	})
}

func TestAckPackets(t *testing.T) {
	b := appendAck(appendAck(nil, pubackByte, 0x0102), pubcompByte, 3)
	r := bytes.NewReader(b)
	for _, want := range []string{"PUBACK", "PUBCOMP"} {
		packet, err := packets.ReadPacket(r)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "type", packet.PacketType(), want)
	}
}

// FuzzFrame: however the stream is cut, the check sees the same packets, and no body is above the limit.
func FuzzFrame(f *testing.F) {
	f.Add([]byte{0x40, 2, 0, 1, 0x32, 0x80, 1}, uint8(1))
	f.Add([]byte{0x40, 0x80, 0x80, 0x80, 0x80, 1}, uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		whole, pieces := frame{max: 100}, frame{max: 100}
		err := whole.check(b)
		var again error
		for rest := b; len(rest) > 0 && again == nil; {
			n := min(int(cut)+1, len(rest))
			again = pieces.check(rest[:n])
			rest = rest[n:]
		}
		if (err == nil) != (again == nil) || err == nil && whole != pieces {
			t.Errorf("whole %v %+v, in pieces %v %+v", err, whole, again, pieces)
		}
		if whole.body > 100 {
			t.Errorf("a body of %d", whole.body)
		}
	})
}

// TestDisconnectPackets: one keeps the session as CONNECT asked for it, the other ends it.
func TestDisconnectPackets(t *testing.T) {
	for _, end := range []bool{false, true} {
		packet, err := packets.ReadPacket(bytes.NewReader(appendDisconnect(nil, end)))
		if err != nil {
			t.Fatal(err)
		}
		d := packet.Content.(*packets.Disconnect)
		same(t, "reason", d.ReasonCode, 0)
		expiry := d.Properties.SessionExpiryInterval
		same(t, "names a session expiry", expiry != nil, end)
		if end && expiry != nil {
			same(t, "session expiry", *expiry, 0)
		}
	}
}
