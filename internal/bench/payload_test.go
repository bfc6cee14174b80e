package bench

import (
	"context"
	"testing"
	"time"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

var all = tag{thing: 9999, number: 1_234_567, due: 123*time.Hour + 45}

// Every payload has the size that was asked for, says what it is asked to, and is fit to be sent.
func TestPayloads(t *testing.T) {
	catalog, err := schemas.New(schemas.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Kinds {
		for _, c := range k.Channels() {
			for _, size := range []int{LeastSize(c) + 1, 127, 128, 300, 4096, 65536} {
				if size < LeastSize(c) {
					continue
				}
				got := newBody(c, size, time.Now()).of(all)
				if err := catalog.Check(context.Background(), string(c), got); err != nil {
					t.Errorf("%s, %d bytes: %v", c, size, err)
				}
				mark := marker
				if k == Req {
					mark = tokenMarker
				} else if d := size - len(got); d < 0 || d > len(`,"pad":""`) {
					t.Errorf("%s: %d bytes, want %d: %s", c, len(got), size, got)
				}
				if tag, ok := findTag(got, mark); !ok || tag != all {
					t.Errorf("%s: tag %v, %v in %.200s", c, tag, ok, got)
				}
			}
			if least := LeastSize(c); !k.roundTrip() && least > 120 {
				t.Errorf("%s: the least is %d bytes", c, least)
			}
		}
	}
}

// A hundred bytes are enough for both ways.
func TestSmall(t *testing.T) {
	for _, k := range []Kind{Up, Down} {
		l := Load{Kind: k, Things: []mapping.Thing{"a"}, Size: 100, Messages: 1}
		if err := l.complete(); err != nil {
			t.Error(err)
		}
	}
}

func TestResponse(t *testing.T) {
	catalog, err := schemas.New(schemas.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range []string{string(newBody(mapping.CommandRequest, 300, time.Now()).of(all)), `{}`} {
		got := response([]byte(request))
		if err := catalog.Check(context.Background(), string(mapping.CommandResponse), got); err != nil {
			t.Error(err)
		}
		if tag, ok := findTag(got, marker); ok != (request != `{}`) || ok && tag != all {
			t.Errorf("%s: tag %v", got, tag)
		}
	}
}

// What is not of the measurement has no tag.
func TestNoTag(t *testing.T) {
	for _, payload := range []string{``, `{}`, `{"bench":"`, `{"bench":"12"}`, `{"bench":"00000000000000000000000000000x"}`, `{"clientToken":"x"}`} {
		if got, ok := findTag([]byte(payload), marker); ok {
			t.Errorf("%s: %v", payload, got)
		}
	}
}
