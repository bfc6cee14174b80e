package bridge

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// A time that the cloud wrote oddly is text like any other: what is stored is JSON, for the next start and
// for the programs that read the bucket.
func TestOddUpdatedAtIsStoredAsJSON(t *testing.T) {
	for _, odd := range []string{`Invalid\u007fDate`, `\u0007`, `\u0000`, `\ud83d\ude00\u00ad\udbff\udfff`, `a\"b\\c</script>`, "\u2028"} {
		bucket := newMemory()
		s := newShadow(t, bucket, archive{})
		fetched(s, []byte(`{"reported":{"a":1},"desired":{},"delta":{},"version":3,"updatedAt":"`+odd+`"}`))
		saved := make(chan struct{})
		s.Save(deadline(t), func() { close(saved) })
		<-saved
		stored := bucket.values["pump-07"]
		var want, got string
		if err := json.Unmarshal([]byte(`"`+odd+`"`), &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(gjson.GetBytes(stored, "updatedAt").Raw), &got); err != nil || got != want || !json.Valid(stored) {
			t.Errorf("%s: stored %q, updatedAt %q, %v", odd, stored, got, err)
		}
		if again := newShadow(t, bucket, archive{}); again.damage != nil || string(again.Document()) != string(s.Document()) {
			t.Errorf("%s: after a restart %s, %v", odd, again.Document(), again.damage)
		}
	}
}

// A stored document that can't be read stops nobody: it is said, and the shadow is fetched anew.
func TestDamagedDocument(t *testing.T) {
	for _, stored := range []string{
		`{"reported":{"a":1},"desired":{},"delta":{},"version":3,"updatedAt":"Invalid\x7fDate"}`,
		`{"reported":{"a":1},"version":"three"}`, `{"reported":{"a"`, `[]`, ``,
	} {
		b := newMemory()
		b.values["pump-07"] = []byte(stored)
		var log strings.Builder
		thing := newThing(t, func(p *Ports) {
			p.Shadows, p.Log = b, slog.New(slog.NewTextHandler(&log, nil))
			p.API = documentAPI(`{"reported":{"b":2},"desired":{},"delta":{},"version":4,"updatedAt":"2026-01-01T00:00:00Z"}`)
		})
		for _, part := range []string{"level=ERROR", "thing=pump-07", "key=pump-07", "merging is lost"} {
			if !strings.Contains(log.String(), part) {
				t.Errorf("%q: no %q in the log: %s", stored, part, log.String())
			}
		}
		if thing.shadow.Known() {
			t.Errorf("%q: something of it is left: %s", stored, thing.shadow.Document())
		}
		thing.Ready(t.Context(), true)
		if got := string(thing.shadow.Document()); !strings.Contains(got, `"reported":{"b":2}`) {
			t.Errorf("%q: after the GET %s", stored, got)
		}
	}
}

// newThing makes a Thing on fakes, with an API only if edit sets one.
func newThing(t *testing.T, edit func(*Ports)) *Thing {
	t.Helper()
	p := Ports{
		Cloud: &quietCloud{feed: make(feed, 16)}, Down: &sink{}, Graveyard: &graveyard{}, Archive: archive{}, Outbox: &outbox{},
		Shadows: newMemory(), Statuses: newMemory(), Executions: newMemory(), Leases: newMemory(), Marks: newMemory(),
		Catalog: catalog(t), Observer: &fates{}, Now: time.Now, Log: quiet(),
	}
	edit(&p)
	thing, err := NewThing(t.Context(), ThingConfig{Thing: pump07, Merged: true, Instance: "x", MaxBytes: 128 << 10}, p)
	if err != nil {
		t.Fatal(err)
	}
	return thing
}
