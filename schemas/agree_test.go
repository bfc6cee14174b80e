package schemas

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"fleetbridge/internal/race"
)

// compileText makes a checker of a schema's text, nil if it is no schema.
func compileText(schema []byte) *checker {
	text, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil
	}
	loaded := texts{"thing:///s.json": text}
	c, err := compile(loaded, "thing:///s.json", loaded, newPatterns())
	if err != nil {
		return nil
	}
	return c
}

// outcome is how a comparison of nodes and library went.
type outcome int

const (
	unread outcome = iota // no payload
	fitting
	refused
	open // the nodes could not tell
)

// agree fails the test when nodes and library say different things about a payload.
func agree(t testing.TB, c *checker, schema, payload []byte) outcome {
	t.Helper()
	var s scanner
	if s.scan(payload, Limits{}) != nil {
		return unread
	}
	quick := c.quick.valid(&s.tape, 0)
	if s.unsure {
		return open
	}
	err := c.full.check(context.Background(), payload, librarySteps)
	if quick != (err == nil) {
		t.Fatalf("schema %s\npayload %s\nnodes: %v, library: %v", schema, payload, quick, err)
	}
	if quick {
		return fitting
	}
	return refused
}

// generated makes a schema of dice, with its checker; nil if it is none.
func generated(d *dice) (schema []byte, decoded map[string]any, c *checker) {
	schema, err := json.Marshal(grammar{d}.schema())
	if err != nil {
		return nil, nil, nil
	}
	if c = compileText(schema); c == nil {
		return schema, nil, nil
	}
	text, _ := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	return schema, text.(map[string]any), c
}

// Nodes and library agree on generated schemas and payloads, of which enough must be worth the name.
func TestNodesAgreeWithLibrary(t *testing.T) {
	r := rand.New(rand.NewPCG(20, 12))
	entropy := func() []byte {
		b := make([]byte, 20+r.IntN(300))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	var schemas, lacking int
	outcomes := map[outcome]int{}
	for schemas < race.Part(3000) {
		schema, decoded, c := generated(newDice(entropy()))
		if c == nil {
			continue
		}
		schemas++
		if c.quick == nil {
			lacking++
			continue
		}
		for range 30 {
			g := grammar{newDice(entropy())}
			outcomes[agree(t, c, schema, []byte(g.fit(decoded, decoded, 4)))]++
		}
	}
	t.Logf("%d schemas, %d of them the library's alone; fitting %d, refused %d, open %d, unread %d",
		schemas, lacking, outcomes[fitting], outcomes[refused], outcomes[open], outcomes[unread])
	if told := outcomes[fitting] + outcomes[refused]; lacking > schemas/3 || outcomes[fitting] < told/5 || outcomes[refused] < told/5 || outcomes[unread] > 0 {
		t.Error("the grammar makes too few that tell something")
	}
}

func FuzzAgree(f *testing.F) {
	f.Add([]byte{1, 2, 3}, []byte{4, 5, 6}, []byte(report300))
	for i := range 20 {
		f.Add(bytes.Repeat([]byte{byte(i), 7, byte(3 * i)}, 9), bytes.Repeat([]byte{byte(5 * i), 1}, 9), []byte(`{"a":[1,1.0,{"b":"\u00e4"}]}`))
	}
	f.Fuzz(func(t *testing.T, bySchema, byPayload, payload []byte) {
		if len(bySchema) > 1000 || len(byPayload) > 1000 || len(payload) > 4000 {
			return
		}
		schema, decoded, c := generated(newDice(bySchema))
		if c == nil || c.quick == nil {
			return
		}
		agree(t, c, schema, payload)
		for range 3 {
			agree(t, c, schema, []byte(grammar{newDice(byPayload)}.fit(decoded, decoded, 4)))
			byPayload = append([]byte{byte(len(byPayload))}, byPayload...)
		}
	})
}
