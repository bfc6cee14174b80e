package fleetsim

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/tidwall/gjson"
)

// encode prints JSON and leaves raw members as they are, but for white space between tokens: no
// number is read, no character escaped.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("fleetsim: " + err.Error()) // raw members are checked where they come in
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// raw copies a member out of a document; a missing one is nil.
func raw(v gjson.Result) json.RawMessage {
	if !v.Exists() {
		return nil
	}
	return json.RawMessage(v.Raw)
}

// integer reads a JSON number that is written as an integer, without going through a float.
func integer(v gjson.Result) (int64, bool) {
	if v.Type != gjson.Number {
		return 0, false
	}
	n, err := strconv.ParseInt(v.Raw, 10, 64)
	return n, err == nil
}

// member returns a top-level member. gjson's path syntax is not wanted for names that are data, and
// this one takes the last of equal keys, as JSON Schema validators do.
func member(doc gjson.Result, name string) (found gjson.Result) {
	doc.ForEach(func(k, v gjson.Result) bool {
		if k.String() == name {
			found = v
		}
		return true
	})
	return found
}

// parseObject checks that a payload is one JSON object.
func parseObject(payload []byte) (gjson.Result, error) {
	if !gjson.ValidBytes(payload) {
		return gjson.Result{}, fmt.Errorf("is not JSON")
	}
	doc := gjson.ParseBytes(payload)
	if !doc.IsObject() {
		return gjson.Result{}, fmt.Errorf("is no JSON object")
	}
	return doc, nil
}

// newUUID makes a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
