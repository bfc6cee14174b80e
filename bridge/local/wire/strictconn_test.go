package wire

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
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

// Commands that are written beside nats.go come whole, in their order, and before what nats.go is asked for afterwards.
func TestWriteCommands(t *testing.T) {
	nc := within(t)
	sub, err := nc.SubscribeSync("n")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	const rounds, size = 200, 3000
	var others sync.WaitGroup
	others.Go(func() { // nats.go writes by itself meanwhile
		for range rounds {
			_ = nc.Publish("other", make([]byte, size))
			_ = nc.Flush()
		}
	})
	defer others.Wait()
	for i := range rounds {
		body := fmt.Sprintf("%0*d", size, 2*i)
		if err := WriteCommands(nc, fmt.Appendf(nil, "PUB n %d\r\n%s\r\n", len(body), body)); err != nil {
			t.Fatal(err)
		}
		if err := nc.Publish("n", strconv.AppendInt(nil, int64(2*i+1), 10)); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 * rounds {
		m, err := sub.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(i, err)
		}
		if n, err := strconv.Atoi(string(m.Data)); n != i || err != nil {
			t.Fatalf("message %d is %.20q", i, m.Data)
		}
	}
	others.Wait()
	nc.Close()
	if err := WriteCommands(nc, []byte("PING\r\n")); err == nil {
		t.Error("a closed connection takes commands")
	}
	if err := WriteCommands(&nats.Conn{}, []byte("PING\r\n")); err == nil {
		t.Error("a connection that is none within the process takes commands")
	}
}

// A server that reads nothing any more does not hold for ever what is written to it.
func TestWriteWithin(t *testing.T) {
	ours, server := net.Pipe()
	defer server.Close()
	c := &strictConn{Conn: ours}
	if err := c.writeWithin(time.Millisecond, []byte("PING\r\n")); err == nil {
		t.Error("written, though nobody reads")
	}
	if _, err := server.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open")
	}
}

// within is a connection to a server in the process.
func within(t *testing.T) *nats.Conn {
	t.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(s.Shutdown)
	nc, err := nats.Connect("", nats.InProcessServer(&InProcess{Server: s}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}
