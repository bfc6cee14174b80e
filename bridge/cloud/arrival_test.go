package cloud

import (
	"bytes"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"
)

// arrivalOf reads a whole packet.
func arrivalOf(t testing.TB, b []byte, keep int) arrival {
	t.Helper()
	a, err := tryArrival(b, keep)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func tryArrival(b []byte, keep int) (arrival, error) {
	f := frame{max: 1 << 28}
	n := 0
	for begun := false; n < len(b) && (!begun || !f.ready()); begun = true {
		if err := f.check(b[n : n+1]); err != nil {
			return arrival{}, err
		}
		n++
	}
	return readArrival(b[0], &body{from: bytes.NewReader(b[n:]), left: f.body}, keep)
}

// TestArrivalHead: of what is too large the head is kept, and its size.
func TestArrivalHead(t *testing.T) {
	for _, c := range []struct {
		name           string
		topic, payload int
		keep           int
	}{
		{"nothing", 5, 0, 10},
		{"as large as allowed", 5, 10, 10},
		{"a byte more", 5, 11, 10},
		{"a megabyte more", 5, 1 << 20, 10},
		{"the longest topic", 1<<16 - 1, 3, 10},
		{"nothing may be kept", 5, 3, 0},
		{"as large as allowed, and larger than a head", 5, 100_000, 100_000},
		{"larger than that", 5, 100_001, 100_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			topic, payload := strings.Repeat("t", c.topic), strings.Repeat("p", c.payload)
			a := arrivalOf(t, publishOf(0x32, topic, nil, payload), c.keep)
			same(t, "size", a.size, c.payload)
			kept := c.payload
			if c.payload > c.keep {
				kept = min(c.keep, keptHead)
			}
			same(t, "kept", len(a.payload), kept)
			same(t, "memory of it", cap(a.payload), len(a.payload))
			same(t, "topic", len(a.topic), min(c.topic, maxTopic))
		})
	}
}

// TestArrivalProperties: nothing is kept of a megabyte of properties but the trace.
func TestArrivalProperties(t *testing.T) {
	user := func(key, value string) []byte { return appendString(appendString([]byte{userProperty}, key), value) }
	for name, c := range map[string]struct {
		properties   []byte
		parent, code string
	}{
		"empty ones":               {bytes.Repeat(user("", ""), 50_000), "", ""},
		"long ones":                {bytes.Repeat(user(strings.Repeat("k", 60000), strings.Repeat("v", 60000)), 8), "", ""},
		"a trace a thousand times": {append(user(traceParent, "00-1"), bytes.Repeat(user(traceParent, "00-2"), 1000)...), "00-1", ""},
		"a trace of 60 kB":         {append(user(traceParent, strings.Repeat("v", 60000)), user(traceParent, "00-1")...), "00-1", ""},
		"a trace with a newline":   {user(traceParent, "00\n1"), "", ""},
		"every kind": {append([]byte{payloadFormat, 1, messageExpiry, 0, 0, 0, 1, contentType, 0, 1, 'c', responseTopic, 0, 1, 'r',
			correlationData, 0, 1, 0, subscriptionIdentifier, 0x80, 1}, user(traceParent, "00-1")...), "00-1", ""},
		"an unknown one":        {[]byte{0x7E, 0}, "", "unknown property"},
		"one that is too long":  {[]byte{contentType, 0, 200, 'c'}, "", "longer than the packet"},
		"one without its value": {[]byte{userProperty, 0, 1, 'k'}, "", "longer than the packet"},
		"alias 0":               {[]byte{topicAlias, 0, 0}, "", "topic alias 0"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := tryArrival(publishOf(0x32, "t", c.properties, ""), 10)
			if c.code != "" {
				if err == nil || !strings.Contains(err.Error(), c.code) {
					t.Errorf("error %v, want %q", err, c.code)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			same(t, "parent", a.trace.Parent, c.parent)
		})
	}
}

// FuzzArrival: what paho reads as a message, we read as the same; and nothing is kept beyond its bound.
func FuzzArrival(f *testing.F) {
	f.Add(publishOf(0x32, "a/b", []byte{topicAlias, 0, 1}, "x"))
	f.Add(publishOf(0x30, "", nil, ""))
	f.Add(publishOf(0x3D, "a", []byte{payloadFormat, 1, userProperty, 0, 0, 0, 0}, "x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || b[0]>>4 != 3 {
			t.Skip()
		}
		const keep = 16
		a, err := tryArrival(b, keep)
		if len(a.payload) > keep || len(a.topic) > maxTopic || len(a.trace.Parent) > maxTrace {
			t.Fatalf("kept too much: %+v", a)
		}
		if err != nil {
			return // paho looks less closely at some, and sets aside as many bytes as the packet claims to have
		}
		packet, theirs := packets.ReadPacket(bytes.NewReader(b))
		if theirs != nil {
			return // at others it looks more closely
		}
		p := packet.Content.(*packets.Publish)
		same(t, "topic", a.topic, p.Topic[:min(len(p.Topic), maxTopic)])
		same(t, "size", a.size, len(p.Payload))
		same(t, "identifier", a.id, p.PacketID)
		same(t, "QoS", a.qos(), p.QoS)
		same(t, "retain", a.retain(), p.Retain)
		if p.Properties.TopicAlias != nil {
			same(t, "alias", a.alias, *p.Properties.TopicAlias)
		}
	})
}
