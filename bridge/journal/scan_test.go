package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// content is a file that is only read.
type content struct {
	File
	reader *bytes.Reader
}

func (c content) ReadAt(p []byte, at int64) (int, error) { return c.reader.ReadAt(p, at) }

// TestFind: between two places where a frame may begin there is no other one, whatever lies between them and wherever the
// window ends.
func TestFind(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	mark := binary.LittleEndian.AppendUint32(nil, uint32(markHead))
	for range 200 {
		data := make([]byte, 2*scanWindow+random.IntN(100))
		for range random.IntN(20) {
			copy(data[random.IntN(len(data)-4):], mark) // mostly where none may be
			copy(data[scanWindow-20+random.IntN(40):], mark[:1+random.IntN(3)])
			copy(data[8*random.IntN(len(data)/8-1):], mark)
		}
		var want, got []int64
		for at := int64(0); at+frameHead <= int64(len(data)); at += frameAlign {
			if bytes.Equal(data[at+8:][:3], mark[:3]) {
				want = append(want, at)
			}
		}
		s := scanner{ctx: context.Background(), file: content{reader: bytes.NewReader(data)}, size: int64(len(data))}
		for at := s.find(0); at < s.size; at = s.find(at + 1) {
			got = append(got, at)
		}
		if len(got) != len(want) {
			t.Fatalf("%d, want %d", len(got), len(want))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("place %d is %d, want %d", i, got[i], want[i])
			}
		}
	}
}
