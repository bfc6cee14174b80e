package main

import (
	"bufio"
	"net"
	"sync"
)

// bufferedConn reads many packets at a time, and gathers what is written while a write is under way.
type bufferedConn struct {
	net.Conn
	in *bufio.Reader

	writing sync.Mutex // what paho holds around a packet
	mu      sync.Mutex
	changed sync.Cond
	out     []byte
	spare   []byte
	err     error
}

const connBuffer = 64 << 10

func newBufferedConn(c net.Conn) *bufferedConn {
	b := &bufferedConn{Conn: c, in: bufio.NewReaderSize(c, connBuffer)}
	b.changed.L = &b.mu
	go b.flush()
	return b
}

// Lock and Unlock keep paho from wrapping the connection once more.
func (b *bufferedConn) Lock()   { b.writing.Lock() }
func (b *bufferedConn) Unlock() { b.writing.Unlock() }

func (b *bufferedConn) Read(p []byte) (int, error) { return b.in.Read(p) }

func (b *bufferedConn) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.err == nil && len(b.out) > connBuffer {
		b.changed.Wait()
	}
	if b.err != nil {
		return 0, b.err
	}
	b.out = append(b.out, p...)
	b.changed.Broadcast()
	return len(p), nil
}

func (b *bufferedConn) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = net.ErrClosed
		b.changed.Broadcast()
	}
	return b.Conn.Close()
}

func (b *bufferedConn) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		for b.err == nil && len(b.out) == 0 {
			b.changed.Wait()
		}
		if b.err != nil {
			return
		}
		out := b.out
		b.out = b.spare[:0]
		b.mu.Unlock()
		_, err := b.Conn.Write(out)
		b.mu.Lock()
		b.spare = out
		if err != nil && b.err == nil {
			b.err = err
		}
		b.changed.Broadcast()
	}
}
