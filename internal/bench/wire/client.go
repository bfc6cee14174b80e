package wire

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"time"
)

// Options of a client.
type Options struct {
	ClientID, Username, Password string
	// OnPublish takes what arrives, one after the other, before it is acknowledged. Topic and payload are
	// valid during the call.
	OnPublish func(topic, payload []byte)
}

// Client is a connection to a broker. It has no session: what it has not acknowledged goes with it.
type Client struct{ *Peer }

const keepAlive = 60 // seconds

// Connect shakes hands over a network connection, which belongs to the client from now on, also when
// an error is returned.
func Connect(ctx context.Context, conn net.Conn, o Options) (*Client, error) {
	c := &Client{newPeer(conn, func(_ *Peer, topic, payload []byte) {
		if o.OnPublish != nil {
			o.OnPublish(topic, payload)
		}
	})}
	c.ClientID = o.ClientID
	stop := context.AfterFunc(ctx, func() { c.fail(ctx.Err()) })
	defer stop()
	err := c.greet(o)
	if err != nil {
		c.fail(err)
		return nil, fmt.Errorf("CONNECT as %q: %w", o.ClientID, c.Err())
	}
	go c.write()
	go c.read(c.other)
	go c.ping()
	return c, nil
}

func (c *Client) greet(o Options) error {
	flags := byte(0x02) // clean start
	if o.Username != "" {
		flags |= 0x80
	}
	if o.Password != "" {
		flags |= 0x40
	}
	b := append(appendString(nil, "MQTT"), 5, flags, 0, keepAlive)
	b = append(b, 3, receiveMaximum, 0xFF, 0xFF)
	b = appendString(b, o.ClientID)
	if o.Username != "" {
		b = appendString(b, o.Username)
	}
	if o.Password != "" {
		b = appendString(b, o.Password)
	}
	if _, err := c.conn.Write(appendPacket(nil, connect, b)); err != nil {
		return err
	}
	first, body, _, err := next(c.in, nil)
	switch {
	case err != nil:
		return err
	case first != connack || len(body) < 2:
		return fmt.Errorf("packet 0x%02X in the place of CONNACK", first)
	case body[1] != 0:
		return fmt.Errorf("the broker refuses it: CONNACK 0x%02X", body[1])
	}
	r := reader{b: body[2:]}
	if most, ok := property(r.properties(), receiveMaximum); ok && most > 0 {
		c.window = min(c.window, int(most))
	}
	return nil
}

func (c *Client) other(first byte, body []byte) error {
	switch first {
	case suback:
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.wait) == 0 || len(body) < 3 {
			return errMalformed
		}
		r := reader{b: body[2:]}
		r.properties()
		c.wait[0] <- append([]byte(nil), r.b...)
		c.wait = c.wait[1:]
	case pingresp:
	case disconnect:
		code := byte(0)
		if len(body) > 0 {
			code = body[0]
		}
		return fmt.Errorf("the broker ended the connection: DISCONNECT 0x%02X", code)
	default:
		return fmt.Errorf("unexpected packet 0x%02X", first)
	}
	return nil
}

// Subscribe asks for a filter with QoS 1 and returns when the broker has granted it.
func (c *Client) Subscribe(ctx context.Context, filter string) error {
	answer := make(chan []byte, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return c.err
	}
	c.wait = append(c.wait, answer)
	c.mu.Unlock()
	b := append(binary.BigEndian.AppendUint16(nil, 1), 0)
	c.queue(appendPacket(nil, subscribe, append(appendString(b, filter), 1)))
	select {
	case codes, ok := <-answer:
		switch {
		case !ok:
			return c.Err()
		case len(codes) != 1 || codes[0] >= 0x80:
			return fmt.Errorf("SUBSCRIBE %q: the broker refuses it: SUBACK % X", filter, codes)
		case codes[0] < 1:
			return fmt.Errorf("SUBSCRIBE %q: the broker grants QoS %d, the measurement needs 1", filter, codes[0])
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ping keeps the connection alive while nothing else is sent.
func (c *Client) ping() {
	t := time.NewTicker(keepAlive * time.Second / 2)
	defer t.Stop()
	for {
		select {
		case <-c.written:
			return
		case <-t.C:
			c.queue([]byte{pingreq, 0})
		}
	}
}
