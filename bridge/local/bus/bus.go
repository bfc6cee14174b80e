package bus

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Bus carries what users say to each other on the subjects of local.bus. Each user has an account of its own, and the
// server hands nothing on that came from one account into a third. So what a user publishes comes to the bridge, which
// publishes it for all; also what the user says to its own programs, so that queue groups span users and nobody hears it
// twice. As on any NATS, nothing is stored, and who is not there misses it.
//
// A request is given a reply subject of the bridge's own, which names the asker's and proves that the bridge has made it.
// Whoever hears the request may answer there, as often as it likes, and nowhere else.
type Bus struct {
	nc   *nats.Conn
	s    mapping.Subjects
	log  *slog.Logger
	key  []byte
	back string // of this run
	subs []*nats.Subscription
	asks map[string]*busAsks // by account; of said's goroutine
}

// busAsks are an account's latest requests, by their reply subjects. The server remembers each for two minutes after the
// last answer, at some 600 bytes, and it can't tell which is the last. So of those that are older the bridge says that it was.
type busAsks struct {
	replies [MaxRequests]string
	next    int
}

// MaxRequests is how many requests of a user's may wait for answers.
const MaxRequests = 8 << 10

// Serve carries until it is closed. It needs a connection of its own, on which floods wait for themselves.
func Serve(nc *nats.Conn, s mapping.Subjects, log *slog.Logger) (*Bus, error) {
	b := &Bus{nc: nc, s: s, log: log, asks: map[string]*busAsks{}, key: make([]byte, sha256.Size), back: access.BusBack(s) + nuid.Next() + "."}
	_, _ = rand.Read(b.key)                                            // never fails
	said, err := nc.QueueSubscribe(access.BusIn(s)+">", "bus", b.said) // of all bridges on a server one
	answered, problem := nc.Subscribe(b.back+">", b.answered)
	if err = errors.Join(err, problem); err == nil {
		b.subs = []*nats.Subscription{said, answered}
		err = errors.Join(said.SetPendingLimits(busMessages, busBytes), answered.SetPendingLimits(busMessages, busBytes), nc.FlushTimeout(wire.APITimeout))
	}
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	return b, nil
}

// What may wait to be carried, each way. What comes beyond it is lost, and said so.
const (
	busMessages = 64 << 10
	busBytes    = 16 << 20
)

// Close carries nothing more.
func (b *Bus) Close() {
	for _, sub := range b.subs {
		_ = sub.Unsubscribe() // or the connection is closed
	}
}

// said hands on what a user published.
func (b *Bus) said(m *nats.Msg) {
	tail := strings.TrimPrefix(m.Subject, access.BusIn(b.s))
	out := &nats.Msg{Subject: access.BusOut(b.s) + tail, Data: m.Data}
	if strings.HasPrefix(m.Reply, wire.Crossing) { // the server's name for the asker
		out.Reply = b.back + b.proof(m.Reply) + "." + m.Reply
		b.ask(wire.AccountOf(m.Header), m.Reply)
	}
	b.carry(m, out)
}

// ask notes a request, and ends the oldest of its account when there are too many: to the server an empty answer is the
// last one.
func (b *Bus) ask(account, reply string) {
	asks := b.asks[account]
	if asks == nil {
		asks = &busAsks{}
		b.asks[account] = asks
	}
	if oldest := asks.replies[asks.next]; oldest != "" {
		_ = b.nc.Publish(oldest, nil) // is lost with the connection
	}
	asks.replies[asks.next] = reply
	asks.next = (asks.next + 1) % MaxRequests
}

// answered hands on what somebody answered, or the server's word that nobody is there.
func (b *Bus) answered(m *nats.Msg) {
	if strings.HasPrefix(m.Reply, wire.Crossing) { // an answer asks nothing: to the server an empty answer ends it
		_ = b.nc.Publish(m.Reply, nil) // is lost with the connection
	}
	proof, reply, _ := strings.Cut(strings.TrimPrefix(m.Subject, b.back), ".")
	if !hmac.Equal([]byte(proof), []byte(b.proof(reply))) {
		b.log.Warn("refused an answer on the bus: its subject is none that the bridge gave", "from", wire.ProgramText(wire.AccountOf(m.Header)))
		return
	}
	if wire.NobodyThere(m) {
		out := wire.StatusMessage(reply, "503", "no responders")
		out.Header.Set(micro.ErrorCodeHeader, "503")
		out.Header.Set(micro.ErrorHeader, "nobody serves this subject")
		_ = b.nc.PublishMsg(out) // is lost with the connection
		return
	}
	b.carry(m, &nats.Msg{Subject: reply, Data: m.Data})
}

func (b *Bus) carry(from, out *nats.Msg) {
	err := busSubject(out.Subject + out.Reply)
	if err == nil && wire.Illegible(from) {
		err = errors.New("the headers can't be read")
	}
	if err == nil {
		out.Header, err = busHeader(from.Header)
	}
	if err == nil {
		err = b.nc.PublishMsg(out)
	}
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		b.log.Warn("a message of the bus is dropped", "from", wire.ProgramText(wire.AccountOf(from.Header)), "subject", wire.ProgramText(from.Subject), "error", err)
	}
}

// proof is what nobody else can make of a reply subject.
func (b *Bus) proof(reply string) string {
	h := hmac.New(sha256.New, b.key)
	_, _ = h.Write([]byte(reply))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// busSubject reports why the bridge can't publish there: the server ends a connection whose line is too long.
func busSubject(s string) error {
	if len(s) > wire.LongestSubject {
		return fmt.Errorf("the subject is longer than %d bytes", wire.LongestSubject)
	}
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || token == "*" || token == ">" || strings.IndexFunc(token, wire.NotPrintable) >= 0 {
			return errors.New("the subject is none that can be published on")
		}
	}
	return nil
}

// busHeader is what programs say to each other: all but what NATS's own headers ask the server for, with the bridge's
// rights. Errors of services are no such thing.
func busHeader(h nats.Header) (nats.Header, error) {
	out := make(nats.Header, len(h))
	for key, values := range h {
		if key == wire.KeyTooMany {
			return nil, fmt.Errorf("the headers have more than %d lines, or %d bytes", wire.MaxHeaderLines-2, wire.MaxHeaderBytes)
		}
		own := len(key) >= len(wire.NATSOwn) && strings.EqualFold(key[:len(wire.NATSOwn)], wire.NATSOwn)
		if !own || key == micro.ErrorHeader || key == micro.ErrorCodeHeader {
			out[key] = values
		}
	}
	return out, nil
}

// Check says what is wrong with the n-th of the subjects of a bus.
func Check(s mapping.Subjects, bus []string, n int) error {
	subject := bus[n]
	tokens := strings.Split(subject, ".")
	for i, token := range tokens {
		switch {
		case token == "" || token != ">" && strings.IndexFunc(token, wire.NotPrintable) >= 0:
			return fmt.Errorf("%q is no subject, write names joined by dots, such as app.>", subject)
		case token == "*" || token == ">" && (i == 0 || i < len(tokens)-1):
			return fmt.Errorf("%q has a wildcard before its end, begin with a name and end with .> if need be, such as app.>", subject)
		}
	}
	_, ours := wire.Intersect(subject, s.Prefix()+".>")
	switch first := tokens[0]; {
	case ours || subject == s.Prefix():
		return fmt.Errorf("%q overlaps %s.>, which is the bridge's, begin with another name, such as app.>", subject, s.Prefix())
	case first[0] == '_' || first[0] == '$':
		return fmt.Errorf("%q: subjects that begin with %c are NATS's own and the bridge's, begin with another name, such as app.>", subject, first[0])
	}
	for _, other := range bus[:n] {
		if _, both := wire.Intersect(subject, other); both {
			return fmt.Errorf("%q overlaps %q, keep the wider one", subject, other)
		}
	}
	return nil
}
