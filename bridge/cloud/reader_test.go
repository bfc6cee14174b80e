package cloud

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"
)

func TestReader(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789"), 20_000)
	for name, from := range map[string]io.Reader{
		"all at once": bytes.NewReader(want), "byte by byte": iotest.OneByteReader(bytes.NewReader(want)), "end with data": iotest.DataErrReader(bytes.NewReader(want)),
	} {
		r := reader{from: from}
		got, err := io.ReadAll(&r)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if len(r.buf) > readMost || name == "byte by byte" && len(r.buf) != readLeast {
			t.Errorf("%s: a buffer of %d bytes", name, len(r.buf))
		}
	}
}
