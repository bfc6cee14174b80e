package local

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"fleetbridge/mapping"
)

// TestWaiting: what waits is counted and shown by Thing and kind, and dropped for good of a Thing that nobody sends.
func TestWaiting(t *testing.T) {
	t.Parallel()
	inModes(t, func(t *testing.T, open opener) {
		ctx := testContext(t)
		o := open(t, StoreConfig{Things: []mapping.Thing{"pump", "hall 7"}})
		put := func(subject, payload string) {
			t.Helper()
			m, err := o.nc.RequestWithContext(ctx, subject, []byte(payload))
			if err != nil || strings.Contains(string(m.Data), "error") {
				t.Fatal(subject, err)
			}
		}
		for i := range 3 {
			put("fleets.up.pump.events.a", fmt.Sprint(i))
		}
		put("fleets.up.pump.jobs.fw.update", "{}")
		put("fleets.up.hall=207.events.a", "x")
		put("fleets.up.hall=207.shadow.update", "\xff")
		for _, token := range []string{"pump", "hall=207"} { // of a bridge that runs
			if err := o.store.Status().Put(ctx, token, []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
		check := func(thing mapping.Thing, kind, lanes, messages string) {
			t.Helper()
			w, err := NewWaiting(o.store.nc, subjects(t))
			if err != nil {
				t.Fatal(err)
			}
			all, err := w.Lanes(ctx, thing, kind)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, l := range all {
				got = append(got, fmt.Sprint(l.Thing, " ", l.Kind, " ", l.Messages))
				if l.Oldest.IsZero() {
					t.Errorf("since when does %s of %s wait?", l.Kind, l.Thing)
				}
			}
			if s := strings.Join(got, ", "); s != lanes {
				t.Errorf("lanes: got %q, want %q", s, lanes)
			}
			got = nil
			err = w.Each(ctx, thing, kind, func(m WaitingMessage) error {
				if m.Sequence == 0 || m.Stored.IsZero() || m.Subject == "" {
					t.Errorf("%+v", m)
				}
				got = append(got, string(m.Payload))
				return nil
			})
			if s := strings.Join(got, " "); err != nil || messages != "?" && s != messages {
				t.Errorf("messages: got %q, want %q, %v", s, messages, err)
			}
		}
		check("", "", "hall 7 events 1, hall 7 shadow 1, pump events 3, pump jobs 1", "?")
		check("pump", "events", "pump events 3", "0 1 2")
		check("hall 7", "shadow", "hall 7 shadow 1", "\xff")
		check("hall 7", "jobs", "", "")
		drop := func(thing mapping.Thing, kind string) (uint64, error) {
			w, err := NewWaiting(o.store.nc, subjects(t))
			if err != nil {
				t.Fatal(err)
			}
			return w.Drop(ctx, thing, kind)
		}
		if n, err := drop("hall 7", ""); n != 0 || !errors.Is(err, ErrConfigured) {
			t.Errorf("of a Thing that is sent: %d, %v", n, err)
		}
		if err := errors.Join(o.up.SetThings(ctx, []mapping.Thing{"pump"}), o.store.Status().Delete(ctx, "hall=207")); err != nil {
			t.Fatal(err)
		}
		if n, err := drop("hall 7", "shadow"); n != 1 || err != nil {
			t.Errorf("one kind: %d, %v", n, err)
		}
		check("", "", "hall 7 events 1, pump events 3, pump jobs 1", "?")
		if n, err := drop("hall 7", ""); n != 1 || err != nil {
			t.Errorf("all kinds: %d, %v", n, err)
		}
		o = o.kill()
		check("", "", "pump events 3, pump jobs 1", "?")
	})
}

// TestWaitingInParts: what does not go into one answer comes in several.
func TestWaitingInParts(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump", "valve")
	ctx := testContext(t)
	large := strings.Repeat("x", 100<<10)
	for i := range 12 {
		for _, thing := range []string{"pump", "valve"} {
			if _, err := r.nc.RequestWithContext(ctx, "fleets.up."+thing+".events.a", fmt.Appendf(nil, "%02d %s", i, large)); err != nil {
				t.Fatal(err)
			}
		}
	}
	w, err := NewWaiting(r.nc, r.subjects)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := w.Each(ctx, "", "", func(m WaitingMessage) error { got = append(got, m.Thing+string(m.Payload[:2])); return nil }); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, thing := range []string{"pump", "valve"} {
		for i := range 12 {
			want = append(want, fmt.Sprintf("%s%02d", thing, i))
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
