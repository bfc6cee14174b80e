package door

import (
	"bytes"
)

// Costly says what programs publish that costs the server more than its bytes.
type Costly struct {
	Unanswered [][]byte // begin the subjects of questions that nobody may answer, which the server remembers for a while
	JetStream  bool     // programs ask JetStream itself: without users
	Names      []byte   // where the bridge asks it for them
}

// Subjects of JetStream's: what it answers one after the other, whoever asks, and what each stream answers itself.
var (
	apiBegins  = []byte("$JS.API.")
	pullBegins = []byte("$JS.API.CONSUMER.MSG.NEXT.")
	readBegins = []byte("$JS.API.DIRECT.GET.")
)

// add counts a message.
func (c Costly) add(l *load, subject []byte, asks bool) {
	switch {
	case subject[0] != '$' && subject[0] != '_':
	case c.JetStream && (bytes.HasPrefix(subject, apiBegins) && !bytes.HasPrefix(subject, pullBegins) && !bytes.HasPrefix(subject, readBegins) || bytes.Equal(subject, c.Names)):
		l.api++
	case asks:
		for _, begin := range c.Unanswered {
			if bytes.HasPrefix(subject, begin) {
				l.asked++
				return
			}
		}
	}
}
