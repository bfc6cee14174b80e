package door

import (
	"bytes"
	"math"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"
)

// readAlong follows a client's half of the protocol.
type readAlong struct {
	line []byte // as far as it came
	skip int    // bytes of a payload that are to come
	size int    // bytes that this payload has in all
	most int    // bytes that the server takes of a payload; 0: any
	lost bool   // it is not the protocol, or a line or a payload is longer than the server takes
	// long has how many bytes long subjects had that were published on, and longest the longest of them.
	long, longest int
	// published is called for each subject that is published on, and where an answer is asked for, if one is. It reports
	// whether what comes behind is for later.
	published func(subject, reply []byte) (enough bool)
	// other is called for each line with another verb, given by its first letter in lower case, and reports the same.
	other func(verb byte) (enough bool)
}

// longestLine is more than the server takes.
const longestLine = 8 << 10

// look calls published for what p completes, and returns how much of it was looked at: as far as published has enough, or to
// the end of a line that is not the protocol.
func (r *readAlong) look(p []byte) int {
	all, enough := len(p), false
	for len(p) > 0 && !r.lost && !enough {
		if r.skip > 0 {
			n := min(len(p), r.skip)
			r.skip -= n
			p = p[n:]
			continue
		}
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			r.line = append(r.line, p...)
			r.lost = len(r.line) > longestLine
			return all
		}
		line := p[:i]
		if len(r.line) > 0 {
			r.line = append(r.line, line...)
			line = r.line
		}
		enough = r.command(line)
		r.line, p = r.line[:0], p[i+1:]
	}
	return all - len(p)
}

// command reads a line. PUB and HPUB have a payload behind them, whose size comes last. Lines that the server might read
// otherwise are nothing that clients send: of one with a CR in it, it may drop the end, and behind HMSG it finds no payload.
func (r *readAlong) command(line []byte) (enough bool) {
	if len(line) < len("PUB") || line[0]|0x20 != 'p' && line[0]|0x20 != 'h' || line[1]|0x20 == 'i' || line[1]|0x20 == 'o' { // PING, PONG
		return len(line) >= len("SUB") && r.other != nil && r.other(line[0]|0x20)
	}
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) > server.MAX_CONTROL_LINE_SIZE+len("HPUB ") { // the server ends the connection
		r.lost = true
		return false
	}
	verb := bytes.IndexAny(line, " \t")
	if verb < 0 || !bytes.EqualFold(line[:verb], pubVerb) && !bytes.EqualFold(line[:verb], hpubVerb) || bytes.IndexByte(line, '\r') >= 0 {
		r.lost = true
		return false
	}
	line = bytes.TrimRight(line, " \t")
	last := bytes.LastIndexAny(line, " \t")
	size, err := strconv.Atoi(string(line[last+1:]))
	if err != nil || size < 0 || size > math.MaxInt32 || r.most > 0 && size > r.most { // the server says so
		r.lost = true
		return false
	}
	r.skip, r.size = size+len("\r\n"), size
	subject := bytes.TrimLeft(line[verb:], " \t")
	end := bytes.IndexAny(subject, " \t")
	if end <= 0 {
		return false
	}
	if end > usualSubject {
		r.longest = max(r.longest, end)
		r.long = min(r.long+end, serversMemory*r.longest)
	}
	sizes := 1
	if line[0]|0x20 == 'h' {
		sizes = 2
	}
	var reply []byte
	if words(subject[end:]) > sizes {
		reply = bytes.TrimLeft(subject[end:], " \t")
		reply = reply[:bytes.IndexAny(reply, " \t")] // the sizes are behind it
	}
	return r.published(subject[:end], reply)
}

var pubVerb, hpubVerb = []byte("PUB"), []byte("HPUB")

// words counts what blanks separate.
func words(s []byte) (n int) {
	blank := true
	for _, b := range s {
		if was := blank; b == ' ' || b == '\t' {
			blank = true
		} else if blank = false; was {
			n++
		}
	}
	return n
}

const (
	// serversMemory is how many subjects that a connection has published on the server remembers for it: where they lead
	// (512), and whether they are allowed (128).
	serversMemory = 512 + 128
	usualSubject  = 256
)

// held is how much of what the client has sent the server sets aside for it: for the payload of which something is to come,
// and about as much for long subjects.
func (r *readAlong) held() int {
	if r.skip == 0 || r.lost {
		return r.long
	}
	return r.long + r.size
}
