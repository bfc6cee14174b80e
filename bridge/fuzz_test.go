package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// What parses the cloud's payloads gets everything that the schemas let pass.

// fixtures are the payloads of a channel that its schema's tests use, and some that are hard to read.
func fixtures(f *testing.F, channel string, more ...string) [][]byte {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("..", "schemas", "testdata", "valid", channel, "*"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no fixtures for %s: %v", channel, err)
	}
	var out [][]byte
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, data)
	}
	for _, text := range more {
		out = append(out, []byte(text))
	}
	return out
}

// stored checks that the document is one that programs and the next start can read.
func stored(t *testing.T, c *schemas.Catalog, s *Shadow) {
	t.Helper()
	doc := s.Document()
	if err := c.Check(context.Background(), "shadow.document", doc); err != nil || !json.Valid(doc) {
		t.Fatalf("document %q: %v", doc, err)
	}
	bucket := newMemory()
	bucket.values["pump-07"] = doc
	if again := newShadow(t, bucket, archive{}); again.damage != nil || !bytes.Equal(again.Document(), doc) {
		t.Fatalf("document %q is read as %q: %v", doc, again.Document(), again.damage)
	}
	report, err := whole(s, []byte(`{"state":{"reported":{"fuzz":1}}}`), 1<<20)
	if err != nil {
		t.Fatalf("a report on top of %q: %v", doc, err)
	}
	if err := c.Check(context.Background(), string(mapping.ShadowReport), report); err != nil || !gjson.GetBytes(report, "state.reported.fuzz").Exists() {
		t.Fatalf("a report on top of %q: %q: %v", doc, report, err)
	}
}

func FuzzShadowFetched(f *testing.F) {
	for _, body := range fixtures(f, "shadow.document",
		`{"reported":null,"desired":{"a":1},"delta":{"a":1},"version":1,"updatedAt":"2026-05-27T10:05:00Z"}`,
		`{"reported":{},"delta":{"a":null},"version":9223372036854775807,"updatedAt":1e300}`, `{"updatedAt":{"a":"\u0007"}}`, `{"updatedAt":"\u007f\udbff\udfff"}`,
		`{"r\u0065ported":{"n":12345678901234567890},"delta":{"":{}},"version":-1.0,"updatedAt":"\u2028x"}`) {
		f.Add(body)
	}
	c := catalog(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		if c.Check(context.Background(), "shadow.document", body) != nil {
			return
		}
		s := newShadow(t, newMemory(), archive{})
		if d := fetched(s, body); d != nil {
			if err := c.Check(context.Background(), string(mapping.ShadowDelta), d); err != nil {
				t.Fatalf("delta %q: %v", d, err)
			}
		}
		if d := fetched(s, body); d != nil {
			t.Fatalf("delivered twice: %q", d)
		}
		stored(t, c, s)
	})
}

// FuzzShadowDown decides on a push or a delta as the pump does.
func FuzzShadowDown(f *testing.F) {
	for _, payload := range fixtures(f, "shadow.delta", `{"version":1e3,"state":null}`, `{"v\u0065rsion":7,"state":{"n":12345678901234567890}}`) {
		f.Add(true, payload)
	}
	for _, payload := range fixtures(f, "shadow.desired", `{"state":{"desired":{"a":1},"rep\u006frted":{"a":0}},"version":4}`,
		`{"state":{"reported":{},"desired":null,"":1}}`, `{"state":{"desired":{"a":{"b":null}}},"version":99999999999999999999}`) {
		f.Add(false, payload)
	}
	c := catalog(f)
	f.Fuzz(func(t *testing.T, isDelta bool, payload []byte) {
		channel := mapping.ShadowDesired
		if isDelta {
			channel = mapping.ShadowDelta
		}
		s := newShadow(t, newMemory(), archive{})
		d := &Downward{Catalog: c, Shadow: s, Resync: func() {}}
		before := bytes.Clone(payload)
		decision, err := d.Decide(t.Context(), arriving(channel, "", string(payload)))
		if err != nil || !decision.Forward {
			return
		}
		out := decision.Message.Payload
		if err := c.Check(context.Background(), string(channel), out); err != nil || !bytes.Equal(before, payload) {
			t.Fatalf("%q became %q: %v", before, out, err)
		}
		if isDelta || !gjson.GetBytes(before, "state.reported").Exists() {
			if !bytes.Equal(out, before) {
				t.Fatalf("%q became %q", before, out)
			}
		} else if got := decode(t, out)["state"].(map[string]any); got["reported"] != nil {
			t.Fatalf("reported came down: %q became %q", before, out)
		}
		again, err := d.Decide(t.Context(), arriving(channel, "", string(payload)))
		if versioned := gjson.GetBytes(payload, "version").Exists(); err != nil || again.Forward && versioned {
			t.Fatalf("a redelivery of %q passed: %v", payload, err)
		}
		stored(t, c, s)
	})
}

func decode(t *testing.T, payload []byte) map[string]any {
	t.Helper()
	out, d := map[string]any{}, json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		t.Fatalf("%q: %v", payload, err)
	}
	return out
}

// answering is a link whose cloud answers at once with a payload, with our token in it or with its own.
type answering struct {
	x       *Exchange
	channel mapping.Channel
	echo    bool
	payload []byte
	token   string // ours
	taken   bool
}

func (a *answering) Ask(_ context.Context, m Message, done func(error)) error {
	a.token = gjson.GetBytes(m.Payload, "clientToken").String()
	if a.echo {
		a.payload = restore(a.payload, gjson.Parse(`"`+a.token+`"`))
	}
	if _, a.taken = a.x.Answer(Message{Address: at(a.channel, m.Address.ID), Payload: a.payload}); !a.taken {
		done(ErrNotConnected)
	}
	return nil
}

func FuzzAnswer(f *testing.F) {
	var channels []mapping.Channel
	for _, q := range questions {
		for _, c := range []mapping.Channel{q.Accepted, q.Rejected} {
			for _, payload := range fixtures(f, string(c), `{"client\u0054oken":"x","code":"C","execution":{"jobId":"j"}}`, `{"clientToken":null,"code":"C"}`) {
				for _, caller := range []string{"", `"mine"`, `"\u0000\ud83d\ude00"`} {
					f.Add(uint8(len(channels)), true, caller, payload)
					f.Add(uint8(len(channels)), false, caller, payload)
				}
			}
			channels = append(channels, c)
		}
	}
	c := catalog(f)
	f.Fuzz(func(t *testing.T, n uint8, echo bool, caller string, payload []byte) {
		link := &answering{channel: channels[int(n)%len(channels)], echo: echo, payload: bytes.Clone(payload)}
		question, asked := at(question(link.channel), "j"), "{}"
		if caller != "" {
			asked = `{"clientToken":` + caller + `}`
		}
		if c.Check(context.Background(), string(link.channel), payload) != nil || c.Check(context.Background(), string(mapping.JobsGet), []byte(asked)) != nil {
			return
		}
		link.x = NewExchange(pump07, link, "fuzz")
		got, err := link.x.Ask(t.Context(), question, []byte(asked), Trace{})
		own := gjson.GetBytes(payload, "clientToken")
		if want := echo || own.Type == gjson.Null || own.String() == link.token; link.taken != want || (err == nil) != want {
			t.Fatalf("%q: taken %v, %v", payload, link.taken, err)
		}
		if !link.taken {
			late, _ := link.x.Answer(Message{Address: at(link.channel, "j"), Payload: restore(payload, gjson.Parse(`"`+link.token+`"`))})
			got = late
		}
		members, want := decode(t, got.Payload), decode(t, payload)
		if token := decode(t, []byte(asked))["clientToken"]; !reflect.DeepEqual(members["clientToken"], token) {
			t.Fatalf("%q: the caller sent %s and gets %q", payload, asked, got.Payload)
		}
		delete(members, "clientToken")
		delete(want, "clientToken")
		if !reflect.DeepEqual(members, want) {
			t.Fatalf("%q became %q", payload, got.Payload)
		}
	})
}
