package wire

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	scanBatch = 500
	// scanPatience is how long the server may take for the next records of a scan; what it has not sent by then it can't read.
	scanPatience = 2 * time.Second
)

// ScanHeads reads the headers of every message of a stream, the oldest first, or only of the last of each subject, and
// returns how many there should be.
func ScanHeads(ctx context.Context, stream jetstream.Stream, of jetstream.DeliverPolicy, f func(jetstream.Msg)) (pending, read uint64, err error) {
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy: of, FilterSubject: ">", AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true, MemoryStorage: true, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return 0, 0, err
	}
	pending = consumer.CachedInfo().NumPending
	defer func() { _ = stream.DeleteConsumer(context.WithoutCancel(ctx), consumer.CachedInfo().Name) }()
	for read < pending {
		batch, err := consumer.Fetch(int(min(pending-read, scanBatch)), jetstream.FetchMaxWait(scanPatience))
		if err != nil {
			return pending, read, err
		}
		before := read
		for m := range batch.Messages() {
			f(m)
			read++
		}
		if read == before {
			return pending, read, batch.Error()
		}
	}
	return pending, read, nil
}
