package local

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// blocksTooLarge are header blocks that cost a lot to read, or to keep.
func blocksTooLarge() map[string]string {
	lines := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "k%d:\r\n", i)
		}
		return b.String()
	}
	return map[string]string{
		"a few more lines than are read": lines(maxHeaderLines + 10),
		"as many as there is room for":   lines(120_000),
		"one key again and again":        strings.Repeat("k:\r\n", 250_000),
		"lines without a key":            strings.Repeat(":\r\n", 300_000),
		"a long value":                   "k:" + strings.Repeat("x", 1_000_000) + "\r\n",
		"a long key":                     strings.Repeat("x", 1_000_000) + ":\r\n",
		"a long id":                      "Nats-Msg-Id: " + strings.Repeat("x", maxHeaderBytes) + "\r\n",
	}
}

// TestHeaderBlocksAreBounded: what costs nats.go, or the store, a lot is refused with a word, also as a request; what
// comes behind it on the connection is read as it is.
func TestHeaderBlocksAreBounded(t *testing.T) {
	r := newRigWith(t, ServerConfig{MaxPayload: 2 << 20, Users: []User{{Name: "alice", Password: "secret", Things: []mapping.Thing{"pump"}}}}, StoreConfig{})
	handled := make(chan bridge.Request, 100)
	s, err := Serve(r.nc, handle(func(_ context.Context, q bridge.Request) (bridge.Response, error) {
		handled <- q
		return bridge.Response{Payload: []byte("{}")}, nil
	}), ServiceConfig{Subjects: r.subjects, Version: "1.0.0", Log: r.journal.log()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	c := rawLogin(t, r.server.URL(), "alice")
	for name, lines := range blocksTooLarge() {
		block := "NATS/1.0\r\n" + lines + "\r\n"
		if _, answer := c.request("alice", "fleets.up.pump.events.x", block, "{}"); !strings.Contains(answer, "more than 30 lines") {
			t.Errorf("%s: %.200q", name, answer)
		}
		if header, answer := c.request("alice", "fleets.req.pump.jobs.get", block, "{}"); !strings.Contains(header, "400") {
			t.Errorf("%s, as a request: %.200q %.200q", name, header, answer)
		}
		if _, answer := c.request("alice", "fleets.up.pump.events.x", "NATS/1.0\r\n"+strings.Repeat("k: v\r\n", 20)+"\r\n", "{}"); !strings.Contains(answer, `"seq":`) {
			t.Errorf("behind %s: %.200q", name, answer)
		}
	}
	if len(handled) > 0 {
		t.Errorf("carried out: %v", <-handled)
	}
}

// TestStrictConnPieces: a block is read alike however it comes in pieces, and stays as long as it is.
func TestStrictConnPieces(t *testing.T) {
	blocks := blocksTooLarge()
	blocks["lines that are none"] = strings.Repeat("k\r\n", 10_000)
	blocks["a bare LF"] = "a: b\nc: d\r\n"
	blocks["two blocks"] = "a: b\r\n\r\nc: d\r\n"
	blocks["just enough lines"] = strings.Repeat("k:\r\n", maxHeaderLines-1)
	for name, lines := range blocks {
		block := "NATS/1.0\r\n" + lines[:min(len(lines), 2*maxHeaderBytes)] + "\r\n"
		stream := []byte(fmt.Sprintf("HMSG s 1 %d %d\r\n%spayload\r\nMSG s 1 2\r\n\r\n\r\n", len(block), len(block)+len("payload"), block))
		whole := bytes.Clone(stream)
		(&strictConn{}).look(whole)
		for _, size := range []int{1, 2, 3, 5, 1000} {
			pieces, c := bytes.Clone(stream), &strictConn{}
			for rest := pieces; len(rest) > 0; {
				n := min(size, len(rest))
				c.look(rest[:n])
				rest = rest[n:]
			}
			if !bytes.Equal(pieces, whole) {
				t.Errorf("%s, in pieces of %d: not as in one", name, size)
			}
		}
		if tail := []byte("payload\r\nMSG s 1 2\r\n\r\n\r\n"); !bytes.HasSuffix(whole, tail) || len(whole) != len(stream) {
			t.Errorf("%s: what is behind it was changed", name)
		}
		if name == "just enough lines" && !bytes.Equal(whole, stream) {
			t.Errorf("%s: was changed", name)
		}
	}
}

// TestShortID: what the server keeps of an id is bounded, and different for different ids.
func TestShortID(t *testing.T) {
	long := strings.Repeat("x", 40_000)
	seen := map[string]bool{}
	for _, id := range []string{"a", long, long + "y", long[1:], strings.Repeat("x", longestID)} {
		short := shortID(id)
		if len(short) > longestID || seen[short] || wellFormed("Nats-Msg-Id", []string{short}) != nil {
			t.Errorf("%.20q (%d bytes) becomes %q", id, len(id), short)
		}
		seen[short] = true
	}
	if short := shortID(nats.NewInbox()); strings.HasPrefix(short, "sha256") {
		t.Error(short)
	}
}
