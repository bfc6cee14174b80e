package registry

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/natstest"
	"fleetbridge/bridge/local/wire"
)

// Who follows the registry sees every change: also that the bucket was emptied, or made anew.
func TestRegistry(t *testing.T) {
	nc, err := nats.Connect(natstest.Server(t).ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ctx := natstest.Context(t)
	writer, err := New(nc, natstest.Subjects(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	reader, _ := New(nc, natstest.Subjects(t), 1)
	follows := func(changed bool, want ...string) {
		t.Helper()
		is, err := reader.Follow(ctx)
		var got []string
		for _, e := range reader.Entries() {
			got = append(got, e.Key+"="+string(e.Value))
		}
		if err != nil || is != changed || strings.Join(got, " ") != strings.Join(want, " ") {
			t.Fatalf("changed %v, %v; entries %q, want %q", is, err, got, want)
		}
	}
	put := func(replace bool, pairs ...string) error {
		var entries []Entry
		for _, p := range pairs {
			key, value, _ := strings.Cut(p, "=")
			entries = append(entries, Entry{key, []byte(value)})
		}
		_, err := writer.Put(ctx, entries, replace)
		return err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	follows(false) // there is no bucket
	must(put(false, "a=1", "b=2"))
	follows(true, "a=1", "b=2")
	follows(false, "a=1", "b=2")
	if err := put(false, "a=3"); !errors.Is(err, bridge.ErrExists) {
		t.Errorf("one that is there: %v", err)
	}
	must(put(true, "a=3"))
	follows(true, "a=3", "b=2")
	revision, err := writer.Remove(ctx, []string{"a"})
	must(err)
	follows(true, "b=2")
	if reader.Revision() != revision {
		t.Errorf("read up to %d, the removal was %d", reader.Revision(), revision)
	}
	must(put(false, "a=4")) // again, where a mark of the removal is
	follows(true, "a=4", "b=2")

	js, _ := wire.JetStream(nc)
	stream, err := js.Stream(ctx, "KV_FLEETS_THINGS")
	must(err)
	must(stream.Purge(ctx))
	follows(true)
	follows(false)
	must(put(false, "c=1"))
	follows(true, "c=1")
	reader.made = reader.made.Add(-1) // as if it had been made anew
	follows(true, "c=1")
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("t%03d=x", i))
	}
	must(put(false, many...))
	follows(true, append([]string{"c=1"}, many...)...)
	must(js.DeleteStream(ctx, "KV_FLEETS_THINGS"))
	follows(true)
}
