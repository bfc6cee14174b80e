package bridge

import "context"

// State is what the bridge itself must remember, by key: executions, leases, event clocks. The newest value counts. A
// key is made of tokens and dots. The package porttest asks each implementation for what is promised here:
//
//   - A change is durable when its method returns, and visible to what is called after that.
//   - After any other error than those named nobody knows whether it has changed. Every change may be made twice.
//   - What is too large is ErrTooLarge, and changes nothing.
//   - The caller may write into a value again once the method has returned, and into one that it was given.
type State interface {
	Get(ctx context.Context, key string) ([]byte, error) // ErrNotFound
	Put(ctx context.Context, key string, value []byte) error
	// Create is Put for a key that is not there; else ErrExists. Of many at once one succeeds.
	Create(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error // deleting what is not there is no error
	// List calls f once for every key that begins with prefix, which ends at a dot. f may use the State. Its error ends
	// List, which returns it.
	List(ctx context.Context, prefix string, f func(key string, value []byte) error) error
}

// Prompt is a State that can also change without a wait for the disk. Use this only where the same change is made again
// after a crash.
type Prompt interface {
	// CreateSoon is a Create that returns before the change is durable. The key is visible at once. The same change deletes
	// the key gone, unless that is empty; that may be visible only when it is durable. If CreateSoon returns nil, it calls durable once, which must not block: with nil
	// when both changes are durable; with an error if they may never be. Then the caller has to Put and Delete them.
	CreateSoon(ctx context.Context, r Record, gone string, durable func(error)) error
}
