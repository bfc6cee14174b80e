package wire

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// TestStrictConnPieces: a block is read alike however it comes in pieces, and stays as long as it is.
func TestStrictConnPieces(t *testing.T) {
	for name, lines := range map[string]string{
		"too many lines":      strings.Repeat("k:\r\n", 250_000),
		"a long value":        "k:" + strings.Repeat("x", 1_000_000) + "\r\n",
		"lines that are none": strings.Repeat("k\r\n", 10_000),
		"a bare LF":           "a: b\nc: d\r\n",
		"two blocks":          "a: b\r\n\r\nc: d\r\n",
		"just enough lines":   strings.Repeat("k:\r\n", MaxHeaderLines-1),
	} {
		block := "NATS/1.0\r\n" + lines[:min(len(lines), 2*MaxHeaderBytes)] + "\r\n"
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
