package wire

// Headers of an atomic batch.
const (
	HeaderBatchID     = "Nats-Batch-Id"
	HeaderBatchNumber = "Nats-Batch-Sequence"
	HeaderBatchCommit = "Nats-Batch-Commit"
)
