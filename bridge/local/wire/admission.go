package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// What a program sends reaches others with the bridge's rights: it is stored, answered, or goes on. So what crosses is
// named here, and everything else is refused or left out.

// HeaderRequestInfo is put on by the server when a message comes from a user's account.
const HeaderRequestInfo = "Nats-Request-Info"

// AccountOf is who sent a message with these headers, as the server says; empty: nobody from a user's account. The server
// writes it last, behind what a program may have hidden from it.
func AccountOf(h nats.Header) string {
	info := h[HeaderRequestInfo]
	if len(info) == 0 {
		return ""
	}
	return gjson.Get(info[len(info)-1], "acc").String()
}

// treatment is what becomes of one of NATS's own headers on a program's message.
type treatment int

const (
	refused      treatment = iota // it asks the server for something: all that are not in the table
	passed                        // with one value
	leftOut                       // the server puts it on what programs receive, and they may send that on
	leftOutOfOwn                  // as leftOut when the bridge has sent the message before, else refused
)

// natsHeaders says what becomes of the headers that begin with Nats-.
var natsHeaders = map[string]treatment{
	jetstream.MsgIDHeader:          passed,
	jetstream.ExpectedStreamHeader: passed,
	HeaderRequestInfo:              leftOut,
	jetstream.StreamHeader:         leftOut,
	jetstream.SubjectHeader:        leftOut,
	jetstream.SequenceHeader:       leftOut,
	jetstream.LastSequenceHeader:   leftOut,
	jetstream.TimeStampHeaer:       leftOut,
	"Nats-Num-Pending":             leftOut,
	nats.MsgSize:                   leftOut,
	HeaderBatchID:                  leftOutOfOwn,
	HeaderBatchNumber:              leftOutOfOwn,
	HeaderBatchCommit:              leftOutOfOwn,
}

// NATSOwn begins the headers that are NATS's own.
const NATSOwn = "Nats-"

// Admit names the headers of a program's message that cross to where the bridge's rights are: NATS's own by the table,
// and the program's, whose keys are HTTP tokens and whose values are printable ASCII. The error says what is wrong, for
// the program.
func Admit(h nats.Header) (nats.Header, error) {
	if len(h) == 0 {
		return nil, nil
	}
	if h[KeyTooMany] != nil {
		return nil, fmt.Errorf("the headers have more than %d lines, or %d bytes; send fewer", MaxHeaderLines-2, MaxHeaderBytes)
	}
	_, sentOn := h[HeaderReceived]
	out := make(nats.Header, len(h)+3) // and those of a batch
	for key, values := range h {
		if err := WellFormed(key, values); err != nil {
			return nil, err
		}
		if strings.EqualFold(key, HeaderStamp) { // the bridge's own
			continue
		}
		if len(key) < len(NATSOwn) || !strings.EqualFold(key[:len(NATSOwn)], NATSOwn) {
			out[key] = values
			continue
		}
		switch t := natsHeaders[key]; {
		case t == leftOut && (key != HeaderRequestInfo || len(values) == 1) || t == leftOutOfOwn && sentOn:
		case t != passed:
			return nil, fmt.Errorf("header %s: what it asks of NATS is not supported here, leave it out", key)
		case len(values) != 1:
			return nil, fmt.Errorf("header %s: it stands there %d times, give it once", key, len(values))
		default:
			out[key] = values
		}
	}
	return out, nil
}

// WellFormed looks at every byte.
func WellFormed(key string, values []string) error {
	if doubled(key) {
		return fmt.Errorf("header %.40q: give it another key", key)
	}
	if key == "" || strings.IndexFunc(key, notInKey) >= 0 {
		return fmt.Errorf("header %.40q: a key is made of A-Z a-z 0-9 and !#$%%&'*+-.^_`|~, and each line ends with CR LF", key)
	}
	for _, v := range values {
		if doubled(v) {
			return fmt.Errorf("header %s: its value names headers of NATS, leave it out", key)
		}
		for i := range len(v) {
			if c := v[i]; (c < ' ' || c > '~') && c != '\t' {
				return fmt.Errorf("header %s: byte 0x%02X in the value; it must be printable ASCII, and each line ends with CR LF", key, c)
			}
		}
	}
	return nil
}

// doubled reports whether a text has more than one name of NATS's. The server (2.15) overlooks a header of that name when
// another text has it twice in a row, so a program could hide from it what the bridge adds.
func doubled(s string) bool { return strings.Count(s, NATSOwn) > 1 }

func notInKey(r rune) bool {
	return r <= ' ' || r > '~' || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", r)
}

// Illegible reports whether a received message has a header block that nats.go can't read at all.
func Illegible(m *nats.Msg) bool {
	return m.Header == nil && m.Size() > len(m.Subject)+len(m.Reply)+len(m.Data)
}

// ErrIllegible is what a program is told of an Illegible message.
var ErrIllegible = errors.New("the headers can't be read: NATS/1.0, lines of key: value, and an empty one, each ended by CR LF")

// Answerable reports whether the bridge may answer there with its own rights. Between accounts the reply subject is the
// server's; within one a program could name a subject on which only the bridge is to be heard.
func Answerable(s mapping.Subjects, reply string) bool {
	if reply == "" || len(reply) > LongestSubject || strings.HasPrefix(reply, "_"+s.Prefix()+".") {
		return false
	}
	for _, space := range [...]string{"up", "down", "req", "cmd", "dead"} {
		if strings.HasPrefix(reply, s.Prefix()+"."+space+".") {
			return false
		}
	}
	for token := range strings.SplitSeq(reply, ".") {
		// A token that begins with $ is the server's: an API, an acknowledgement, a batch.
		if token == "" || token[0] == '$' || strings.ContainsAny(token, "*>") || strings.IndexFunc(token, NotPrintable) >= 0 {
			return false
		}
	}
	return true
}

// NotPrintable reports whether a rune may stand in no subject.
func NotPrintable(r rune) bool { return r <= ' ' || r == 0x7f }

// Codes of JetStream's for answers in the place of a PubAck.
const (
	CodeBadRequest  = 10003
	CodeWrongStream = 10060
)

// NoPubAck is the answer in the place of a PubAck to what will never be taken.
func NoPubAck(errCode int, reason string) []byte {
	var answer struct {
		Error struct {
			Code        int    `json:"code"`
			ErrCode     int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	answer.Error.Code, answer.Error.ErrCode, answer.Error.Description = 400, errCode, reason
	out, _ := json.Marshal(answer) // strings and numbers
	return out
}
