package clerk

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/wire"
)

// What a user asks about streams and messages.

// names says which stream has a subject, or all.
func (r *reader) names(body []byte) (map[string]any, error) {
	names, err := r.matching(body)
	return page("streams", names), err
}

// list is names with what is known of each.
func (r *reader) list(body []byte) (map[string]any, error) {
	names, err := r.matching(body)
	if err != nil {
		return nil, err
	}
	infos := make([]map[string]any, 0, len(names))
	for _, name := range names {
		info, err := r.streamInfo(name)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return page("streams", infos), nil
}

func (r *reader) matching(body []byte) ([]string, error) {
	var q struct {
		Subject string `json:"subject"`
		Offset  int    `json:"offset"`
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &q); err != nil {
			return nil, badAPIRequest(err)
		}
	}
	names := []string{}
	for _, readable := range access.Readables(r.subjects) {
		if own := r.own(readable.Stream); q.Offset == 0 && len(own) > 0 && (q.Subject == "" || len(common([]string{q.Subject}, own)) > 0) {
			names = append(names, readable.Stream)
		}
	}
	return names, nil
}

// page is a whole list in one answer.
func page[T any](key string, items []T) map[string]any {
	return map[string]any{"total": len(items), "offset": 0, "limit": 1024, key: items}
}

// notReadable is the answer about a stream that is not the user's.
func (r *reader) notReadable(stream string) error {
	r.refusals.note(r.log, r.name, "stream "+stream)
	return wire.Refuse("user %s may not read stream %.80s: with read, users of local.users have %s and the buckets of their Things, and no streams or buckets of their own",
		r.name, stream, r.subjects.Name(wire.StreamDown))
}

// streamInfo is what clients look at before they use a stream or bucket. How much there is of others is
// left out.
func (r *reader) streamInfo(stream string) (map[string]any, error) {
	if r.own(stream) == nil {
		return nil, r.notReadable(stream)
	}
	info, err := r.ask("STREAM.INFO."+stream, nil)
	if err != nil {
		return nil, err
	}
	state, _ := info["state"].(map[string]any)
	kept := map[string]any{"messages": 0, "bytes": 0, "consumer_count": 0}
	for _, key := range []string{"first_seq", "first_ts", "last_seq", "last_ts"} { // every message tells as much
		kept[key] = state[key]
	}
	return map[string]any{"config": info["config"], "created": info["created"], "ts": info["ts"], "state": kept}, nil
}

// getRequest asks for one message.
type getRequest struct {
	Seq  uint64 `json:"seq,omitempty"`
	Last string `json:"last_by_subj,omitempty"`
	Next string `json:"next_by_subj,omitempty"`
}

// parseGet reads a request for one message of a stream. By sequence alone the message may be anybody's.
func (r *reader) parseGet(stream string, body []byte) (q getRequest, own bool, err error) {
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.DisallowUnknownFields() // such as a batch
	if err := decoder.Decode(&q); err != nil {
		return q, false, err
	}
	if q.Last != "" && (q.Next != "" || q.Seq != 0) || q == (getRequest{}) {
		return q, false, fmt.Errorf("give last_by_subj, or next_by_subj and seq, or seq")
	}
	subject := q.Last + q.Next
	return q, subject == "" || wire.Covered(subject, r.own(stream)), nil
}

var errNoMessage = &jetstream.APIError{Code: 404, ErrorCode: jetstream.JSErrCodeMessageNotFound, Description: "no message found"}

// message answers STREAM.MSG.GET, which some clients use for buckets.
func (r *reader) message(stream string, body []byte) (map[string]any, error) {
	if r.own(stream) == nil {
		return nil, r.notReadable(stream)
	}
	q, own, err := r.parseGet(stream, body)
	if err != nil {
		return nil, badAPIRequest(err)
	}
	if !own {
		return nil, errNoMessage
	}
	answer, err := r.ask("STREAM.MSG.GET."+stream, q)
	if err != nil {
		return nil, err
	}
	got, _ := answer["message"].(map[string]any)
	if subject, _ := got["subject"].(string); !wire.Covered(subject, r.own(stream)) {
		return nil, errNoMessage
	}
	return answer, nil
}

// directGet has JetStream answer the user for what is the user's. The rest is asked for as what is not there.
func (r *reader) directGet(rest string, m *nats.Msg) {
	reply, ok := r.way(m.Reply)
	if !ok {
		return
	}
	stream, subject, bySubject := strings.Cut(rest, ".")
	if r.own(stream) == nil {
		_ = r.answers.Send(wire.StatusMessage(reply, "403", "user "+r.name+" may not read this stream"))
		return
	}
	q, own, err := getRequest{Last: subject}, wire.Covered(subject, r.own(stream)), error(nil)
	if !bySubject {
		q, own, err = r.parseGet(stream, m.Data)
	}
	switch {
	case err != nil:
		_ = r.answers.Send(wire.StatusMessage(reply, "408", "Bad Request: "+wire.OneLine(err.Error(), wire.MaxLine)))
		return
	case !own || q.Last == "" && q.Next == "" && !r.ownSequence(stream, q.Seq):
		q = getRequest{Last: r.nowhere(stream)}
	}
	body, _ := json.Marshal(q) // of numbers and text
	_ = r.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, reply, body)
}

// ownSequence reports whether the message with this sequence is the user's.
func (r *reader) ownSequence(stream string, seq uint64) bool {
	body, _ := json.Marshal(getRequest{Seq: seq})
	ctx, cancel := context.WithTimeout(r.ctx, wire.APITimeout)
	defer cancel()
	got, err := r.nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream, body)
	return err == nil && wire.Covered(got.Header.Get("Nats-Subject"), r.own(stream))
}

// nowhere is a subject of the stream's on which nothing is ever stored: no token is spelled so.
func (r *reader) nowhere(stream string) string {
	for _, readable := range access.Readables(r.subjects) {
		if readable.Stream == stream {
			return readable.Before + "="
		}
	}
	return "="
}

// asked answers a request to the cloud that is not the user's to make. What is goes another way, and is seen here only.
func (r *reader) asked(m *nats.Msg) {
	reply, ok := r.way(m.Reply)
	if !ok {
		return
	}
	tail := strings.TrimPrefix(m.Subject, access.AskedSpace(r.subjects, r.name))
	subject := r.subjects.Prefix() + ".req." + tail
	token, _, _ := strings.Cut(tail, ".")
	may := r.now.Load().asks[token]
	if wire.Covered(subject, may) {
		return
	}
	r.refusals.note(r.log, r.name, subject)
	out := nats.NewMsg(reply)
	wire.ErrorAnswer(out, &bridge.RequestError{Code: statusForbidden,
		Message: fmt.Sprintf("user %s may not ask on %s: local.users has to name the Thing, and allow what is asked", r.name, subject)}, r.answers.Room())
	_ = r.answers.Send(out)
}

const statusForbidden = 403

// refusals has the first refusal of each minute in the log.
type refusals struct {
	mu    sync.Mutex
	since time.Time
	more  int
}

func (f *refusals) note(log *slog.Logger, user, what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if now.Sub(f.since) < time.Minute {
		f.more++
		return
	}
	log.Info("a program asked for what its user may not have", "user", user, "what", wire.OneLine(what, wire.MaxLine), "more_in_the_minute_before", f.more)
	f.since, f.more = now, 0
}
