package local

import (
	"reflect"
	"testing"
	"time"

	"fleetbridge/bridge"
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
