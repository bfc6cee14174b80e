package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// consumerName is a legal name of the lane's and no other lane's: what stands behind the Thing's name is no escape.
func consumerName(t mapping.Thing, k mapping.Kind) string {
	return consumerPrefix(t) + "=" + k.String()
}

// consumerPrefix is the Thing's token, or a hash when that is too long for a file name. The hash is no
// legal token, so it is no other Thing's. Older versions had one consumer of this name for both kinds of a stream.
func consumerPrefix(t mapping.Thing) string {
	name := mapping.Token(string(t))
	if len(name) > 200 {
		sum := sha256.Sum256([]byte(t))
		return "=sha256-" + hex.EncodeToString(sum[:])
	}
	return name
}

// create makes the consumer, in the place of one that is there.
func (q *Queue) create(ctx context.Context) error {
	config := jetstream.ConsumerConfig{
		// One filter: with several the server searches the index for each message.
		Durable: q.consumer, FilterSubject: q.all, DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: never, MaxDeliver: -1, MaxAckPending: q.store.cfg.window(),
		MemoryStorage: true, Metadata: map[string]string{metaOwner: q.owner, metaThing: string(q.thing)},
	}
	stream := q.stream.CachedInfo().Config.Name
	for range 10 {
		_, err := q.stream.CreateConsumer(ctx, config)
		switch code := apiCode(err); {
		case err == nil:
			return nil
		case errors.Is(err, jetstream.ErrConsumerExists), code == jetstream.JSErrCodeConsumerExists, code == jetstream.JSErrCodeConsumerNameExists, code == jetstream.JSErrCodeConsumerAlreadyExists:
		case code == codeNotUnique && q.unmakeOlder(ctx):
			continue
		case code == codeNotUnique:
			return fmt.Errorf("stream %s: a consumer of somebody else's takes from %s; find it with nats consumer ls %s and remove it",
				stream, q.all, stream)
		case code == codeConsumers:
			return fmt.Errorf("stream %s: consumer %s: %w; raise the limit of the account, or of the stream: nats stream edit %s --max-consumers=-1", stream, q.consumer, err, stream)
		default:
			return fmt.Errorf("stream %s: consumer %s: %w", stream, q.consumer, err)
		}
		if err := q.stream.DeleteConsumer(ctx, q.consumer); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("stream %s: consumer %s: %w", stream, q.consumer, err)
		}
	}
	return fmt.Errorf("stream %s: consumer %s: another fleetbridge makes it again and again; stop one of them", stream, q.consumer)
}

// unmakeOlder removes the consumer that an older version had for the whole class. It reports whether there was one.
func (q *Queue) unmakeOlder(ctx context.Context) bool {
	name := consumerPrefix(q.thing)
	have, err := q.stream.Consumer(ctx, name)
	if err != nil || have.CachedInfo().Config.Metadata[metaThing] != string(q.thing) {
		return false
	}
	return q.stream.DeleteConsumer(ctx, name) == nil
}

// rebuild makes the consumer anew unless it is another's, and tries until that works.
func (q *Queue) rebuild(ctx context.Context) error {
	// A question that goes down with the connection is never answered, so patience begins small; but a
	// server that has thousands of consumers to make needs more.
	patience, part := 2*time.Second, "queue of "+string(q.thing)
	for pause, failed := backoffMin, 0; ; pause = min(2*pause, backoffMax) {
		err := q.remake(ctx, patience)
		if err == nil && q.store.troubles.note(part, "") {
			q.log().Info("the queue reads again")
		}
		if err == nil || errors.Is(err, bridge.ErrTakenOver) {
			return err
		}
		if failed++; failed > 1 && ctx.Err() == nil && q.store.troubles.note(part, err.Error()) { // the first one may be the connection's
			q.log().Warn("the queue's consumer can't be made now, trying again", "error", err)
		}
		if sleep(ctx, pause) != nil {
			return nil
		}
		patience = min(2*patience, apiTimeout)
	}
}

func (q *Queue) remake(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stream, err := q.store.js.Stream(ctx, q.stream.CachedInfo().Config.Name)
	if err != nil {
		return err
	}
	have, err := stream.Consumer(ctx, q.consumer)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
	case err != nil:
		return err
	case have.CachedInfo().Config.Metadata[metaOwner] != q.owner:
		return q.takenOver()
	default:
		if err := stream.DeleteConsumer(ctx, q.consumer); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return err
		}
	}
	if created := stream.CachedInfo().Created; !created.Equal(q.created) { // another stream of the same name
		q.created = created
		q.mu.Lock()
		q.lose(1)
		q.last, q.lastAt = 0, time.Time{}
		q.mu.Unlock()
	}
	return q.create(ctx)
}

// follow hands out what one consumer tells. It returns nil when that one may be gone.
func (q *Queue) follow(ctx context.Context, status <-chan nats.Status) error {
	nc := q.store.nc
	reconnects := nc.Stats().Reconnects
	// An inbox of its own, so that nothing comes from the consumer before; with room for all that can
	// be asked for at a time, and for the word that ends each question.
	inbox := nc.NewInbox()
	in := make(chan *nats.Msg, 2*pullBatch+16)
	sub, err := nc.ChanSubscribe(inbox, in)
	if errors.Is(err, nats.ErrConnectionClosed) || err != nil && nc.IsClosed() {
		return fmt.Errorf("queue of %s: %w", q.thing, err)
	}
	if err != nil {
		_ = sleep(ctx, backoffMin)
		return nil
	}
	defer func() { _ = sub.Unsubscribe() }()
	q.open = 0
	timer := time.NewTimer(pullExpires + pullGrace)
	defer timer.Stop()
	for {
		if room := q.room(); (room >= pullBatch/2 || room > 0 && q.open == 0) && nc.IsConnected() {
			q.pull(inbox, room)
			timer.Reset(pullExpires + pullGrace)
		}
		select {
		case <-ctx.Done():
			return nil
		case m := <-in:
			if again, err := q.come(ctx, m); again || err != nil {
				return err
			}
		case <-q.ready.room:
		case <-status:
			if nc.Stats().Reconnects != reconnects {
				return nil
			}
		case <-timer.C:
			if q.open > 0 && len(in) == 0 && nc.IsConnected() { // the last question is over and nobody said so
				q.log().Debug("the queue's consumer is silent")
				return nil
			}
			timer.Reset(pullGrace)
		}
	}
}

// room is how many messages may be asked for.
func (q *Queue) room() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return min(pullBatch-q.ready.len(), q.store.cfg.window()-len(q.unsettled)) - q.open
}

// pull asks for more.
func (q *Queue) pull(inbox string, batch int) {
	request, _ := json.Marshal(struct {
		Batch    int           `json:"batch"`
		MaxBytes int64         `json:"max_bytes"`
		Expires  time.Duration `json:"expires"`
	}{batch, max(pullBytes, q.store.nc.MaxPayload()+headroom), pullExpires})
	subject := "$JS.API.CONSUMER.MSG.NEXT." + q.stream.CachedInfo().Config.Name + "." + q.consumer
	if err := q.store.nc.PublishRequest(subject, inbox, request); err == nil {
		q.open += batch
	}
}

// come handles what came: a message, or the end of a question. again tells that the consumer is gone.
func (q *Queue) come(ctx context.Context, m *nats.Msg) (again bool, err error) {
	if code := m.Header.Get("Status"); code != "" && m.Reply == "" {
		return q.ended(ctx, code, m)
	}
	q.open = max(q.open-1, 0)
	meta, err := m.Metadata()
	if err != nil {
		q.log().Warn("not a message of a stream", "subject", m.Subject, "error", err)
		return false, nil
	}
	seq, at := meta.Sequence.Stream, meta.Timestamp
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case !q.handedOut(seq, at):
		q.enter(m, handed{seq: seq, at: at, reply: m.Reply})
	case seq > q.floor: // and is not settled
	default:
		q.acknowledge(m.Reply)
	}
	return false, nil
}

// handedOut reports whether the message was handed out before. The time guards against a stream that lost its end
// in a crash and gave the number away again. The lock is held.
func (q *Queue) handedOut(seq uint64, at time.Time) bool {
	return seq <= q.last && !at.After(q.lastAt)
}

// ended handles the word that ends a question.
func (q *Queue) ended(ctx context.Context, code string, m *nats.Msg) (again bool, err error) {
	text := m.Header.Get("Description")
	switch {
	case code == "100": // heartbeat
		return false, nil
	case code == "503": // nobody there: the consumer is gone, or JetStream is starting
		return true, nil
	case code == "409" && strings.Contains(text, "Consumer Deleted"):
		// By another bridge, which makes one of its own in its place: remake finds that. Or the stream was removed,
		// or somebody removed the consumer, and it is made again.
		_ = sleep(ctx, deletedPause)
		return true, nil
	case code == "409" && strings.Contains(text, "Shutdown"): // the consumer was in that server's memory
		return true, nil
	case code == "409" && strings.Contains(text, "Leadership"):
		q.open = 0
		_ = sleep(ctx, backoffMin)
		return false, nil
	case code == "400" || code == "409" && strings.Contains(text, "MaxWaiting"):
		q.log().Warn("the queue's question was refused", "code", code, "error", text)
		return true, nil
	}
	if code == "409" && !strings.Contains(text, "Batch Completed") && !strings.Contains(text, "MaxBytes") {
		if sleep(ctx, backoffMin) != nil {
			return false, nil
		}
	}
	left, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
	if err != nil {
		left = q.open
	}
	q.open = max(q.open-left, 0)
	return false, nil
}

// deletedPause is longer than another bridge needs to make its consumer after it has removed ours.
const deletedPause = time.Second

// acknowledge doesn't wait. One that is lost goes with the connection, and after that everything is
// told again.
func (q *Queue) acknowledge(reply string) {
	if err := q.store.nc.Publish(reply, []byte("+ACK")); err != nil {
		q.log().Debug("acknowledgement not sent, it follows after the reconnection", "error", err)
	}
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
