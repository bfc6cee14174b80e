package cloud

import "io"

const (
	readLeast = 512
	readMost  = 32 << 10 // bytes: some thousand acknowledgements a system call
)

// reader is a buffered reader whose buffer grows with what comes, so that a Thing to which nothing is sent
// costs next to nothing.
type reader struct {
	from io.Reader
	buf  []byte
	r, w int // what is in it
}

func (b *reader) buffered() int { return b.w - b.r }

// fill waits until there is something in the buffer.
func (b *reader) fill() error {
	for b.r == b.w {
		if b.w == len(b.buf) && b.w < readMost { // full the last time: there was more
			b.buf = make([]byte, max(readLeast, 4*b.w))
		}
		n, err := b.from.Read(b.buf)
		b.r, b.w = 0, max(n, 0)
		if n <= 0 && err != nil {
			return err
		}
	}
	return nil
}

// next is the byte that comes next, when there is something in the buffer.
func (b *reader) next() byte { return b.buf[b.r] }

func (b *reader) Read(p []byte) (int, error) {
	if err := b.fill(); err != nil {
		return 0, err
	}
	n := copy(p, b.buf[b.r:b.w])
	b.r += n
	return n, nil
}
