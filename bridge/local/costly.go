package local

import (
	"bytes"
	"strings"
)

// costly tells what programs publish that costs more than its bytes.
type costly struct {
	unanswered [][]byte // begin the subjects of questions that nobody may answer, which the server remembers for a while
	api        bool     // programs ask JetStream itself: without users
	names      []byte   // where the bridge asks it for them
}

func (s *Server) costly() (c costly) {
	if c.api = s.logins == nil; c.api {
		c.names = []byte(namesSubject(s.subjects))
		return c
	}
	for _, e := range serviceExports(s.subjects) {
		if e.wait == quickPatience {
			c.unanswered = append(c.unanswered, []byte(strings.TrimRight(e.subject, ">*")))
		}
	}
	return c
}

// Subjects of JetStream's: what it answers one after the other, whoever asks, and what each stream answers itself.
var (
	apiBegins  = []byte("$JS.API.")
	pullBegins = []byte("$JS.API.CONSUMER.MSG.NEXT.")
	readBegins = []byte("$JS.API.DIRECT.GET.")
)

// add counts a message.
func (c costly) add(l *load, subject []byte, asks bool) {
	switch {
	case subject[0] != '$' && subject[0] != '_':
	case c.api && (bytes.HasPrefix(subject, apiBegins) && !bytes.HasPrefix(subject, pullBegins) && !bytes.HasPrefix(subject, readBegins) || bytes.Equal(subject, c.names)):
		l.api++
	case asks:
		for _, begin := range c.unanswered {
			if bytes.HasPrefix(subject, begin) {
				l.asked++
				return
			}
		}
	}
}
