package local

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// rawClient speaks NATS by hand: a client library never sends what an attacker sends.
type rawClient struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
	asks int
}

// rawLogin connects to a NATS server, without a login when the name is empty.
func rawLogin(t testing.TB, url, name string) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	return rawOn(t, conn, name)
}

func rawOn(t testing.TB, conn net.Conn, name string) *rawClient {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	c := &rawClient{t: t, conn: conn, in: bufio.NewReader(conn)}
	if _, err := c.in.ReadString('\n'); err != nil { // INFO
		t.Fatal(err)
	}
	return c.login(name)
}

// rawSecure does the same by TLS.
func rawSecure(t testing.TB, url, name string) *rawClient {
	t.Helper()
	c, greeting := rawGreeted(t, url)
	if !strings.Contains(greeting, `"tls_required":true`) {
		t.Fatalf("the greeting is %s", greeting)
	}
	c.conn = tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	c.in = bufio.NewReader(c.conn)
	return c.login(name)
}

// rawGreeted connects, and returns what the server says.
func rawGreeted(t testing.TB, url string) (*rawClient, string) {
	t.Helper()
	_, address, _ := strings.Cut(url, "://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	c := &rawClient{t: t, conn: conn, in: bufio.NewReader(conn)}
	greeting, err := c.in.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return c, greeting
}

func (c *rawClient) login(name string) *rawClient {
	c.t.Helper()
	login := ""
	if name != "" {
		login = fmt.Sprintf(`,"user":%q,"pass":"secret"`, name)
	}
	c.write(`CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true%s}`+"\r\n", login)
	c.write("SUB %s.> 1\r\n", c.inbox(name))
	c.flush()
	return c
}

func (c *rawClient) inbox(name string) string {
	if name == "" {
		return "raw"
	}
	return "_INBOX_" + name
}

func (c *rawClient) write(format string, args ...any) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.conn, format, args...); err != nil {
		c.t.Fatal(err)
	}
}

// publish sends a header block as it is.
func (c *rawClient) publish(subject, reply, block, payload string) {
	c.t.Helper()
	if block == "" {
		c.write("PUB %s %s %d\r\n%s\r\n", subject, reply, len(payload), payload)
		return
	}
	c.write("HPUB %s %s %d %d\r\n%s%s\r\n", subject, reply, len(block), len(block)+len(payload), block, payload)
}

// request returns the header block and the payload of the answer.
func (c *rawClient) request(name, subject, block, payload string) (header, data string) {
	c.t.Helper()
	c.asks++
	reply := c.inbox(name) + "." + strconv.Itoa(c.asks)
	c.publish(subject, reply, block, payload)
	for {
		on, header, data := c.next()
		if on == reply {
			return header, data
		}
	}
}

// next reads a message that came.
func (c *rawClient) next() (subject, header, data string) {
	c.t.Helper()
	for {
		line, err := c.in.ReadBytes('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		f := bytes.Fields(line)
		switch string(f[0]) {
		case "PING":
			c.write("PONG\r\n")
		case "MSG", "HMSG":
			total, _ := strconv.Atoi(string(f[len(f)-1]))
			body := make([]byte, total+2)
			if _, err := io.ReadFull(c.in, body); err != nil {
				c.t.Fatal(err)
			}
			h := 0
			if string(f[0]) == "HMSG" {
				h, _ = strconv.Atoi(string(f[len(f)-2]))
			}
			return string(f[1]), string(body[:h]), string(body[h:total])
		}
	}
}

// flush returns when the server has carried out what was sent. What comes meanwhile is forgotten.
func (c *rawClient) flush() {
	c.t.Helper()
	c.write("PING\r\n")
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		if strings.HasPrefix(line, "PONG") {
			return
		}
	}
}
