package local

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
)

func TestEntry(t *testing.T) {
	t.Parallel()
	for _, want := range []entry{
		{received: time.Unix(0, 0), payload: []byte{}},
		{subject: "fleets.up.pump.events.x", received: time.Unix(1, 2), stamp: 3, sequence: 1 << 60, id: "i", trace: bridge.Trace{Parent: "p", State: "s"}, payload: []byte("{}\x00")},
	} {
		got, err := decodeEntry(want.encode())
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
}

func FuzzEntry(f *testing.F) {
	whole := entry{subject: "s", received: time.Unix(1, 2), payload: []byte("{}")}
	f.Add(whole.encode())
	f.Add([]byte{entryVersion, 0, 0, 0, 255})
	f.Add([]byte{7})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEntry(b)
		if err != nil {
			return
		}
		if again, err := decodeEntry(e.encode()); err != nil || !reflect.DeepEqual(again, e) {
			t.Errorf("%+v, %v, want %+v", again, err, e)
		}
	})
}

func TestHPUB(t *testing.T) {
	record := encodeView(viewDown, "s.t", wire.Headers{{Key: "A", Value: "1"}, {Key: "B", Value: "b b"}}, []byte("{}\r\n\x00"))
	got, head, size := appendHPUB([]byte("before"), []byte{}, record, "N", "i.7")
	head = append(head, "NATS/1.0\r\nA: 1\r\nB: b b\r\nN: i.7\r\n\r\n"...)
	if want := fmt.Sprintf("beforeHPUB s.t %d %d\r\n%s{}\r\n\x00\r\n", len(head), len(head)+5, head); string(got) != want || size != len(head)+5 {
		t.Errorf("%q, %d, want %q", got, size, want)
	}
	record = encodeView(viewDown, "s\r\nPUB x 0", wire.Headers{{Key: "A\n", Value: "1\r\n\r\nB: 2"}}, nil)
	if got, _, _ := appendHPUB(nil, nil, record, "N", "1"); bytes.Count(got, []byte("\n")) != 6 || bytes.Count(got, []byte("\r\n")) != 6 {
		t.Errorf("%q has other lines", got)
	}
	if n := testing.AllocsPerRun(100, func() { got, head, _ = appendHPUB(got[:0], head[:0], record, "N", "i.7") }); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}

func FuzzView(f *testing.F) {
	f.Add(encodeView(viewDown, "s", wire.Headers{{Key: "A", Value: "1"}}, []byte("{}")))
	f.Add([]byte{viewVersion, viewDead, 0, 255})
	f.Add([]byte{7})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, m, err := decodeView(b)
		if err != nil {
			return
		}
		out, _, size := appendHPUB(nil, nil, b, "N", "")
		if line := fmt.Sprintf("%d\r\n", size); !bytes.HasPrefix(out, append(appendLine([]byte("HPUB "), []byte(m.Subject)), ' ')) || !bytes.Contains(out, []byte(line)) || !bytes.HasSuffix(out, append(bytes.Clone(m.Data), "\r\n"...)) {
			t.Errorf("%q of %+v", out, m)
		}
	})
}
