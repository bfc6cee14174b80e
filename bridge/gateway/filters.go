package gateway

import (
	"context"
	"encoding/json"
	"errors"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// filterMemory stores the filters of a client id's session among the marks. The key is made of the client id, because the
// Thing may get another name; of a long one it is its hash, as NATS ends a connection for a line that is too long.
type filterMemory struct {
	marks bridge.State
	key   string
}

func newFilterMemory(marks bridge.State, clientID string) *filterMemory {
	return &filterMemory{marks, "_filters." + mapping.Token(wire.ShortID(clientID))}
}

// Load implements cloud.FilterMemory. A record that can't be read is as good as none.
func (f *filterMemory) Load(ctx context.Context) (filters []string, err error) {
	value, err := f.marks.Get(ctx, f.key)
	if errors.Is(err, bridge.ErrNotFound) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(value, &filters)
	}
	return filters, err
}

// Save implements cloud.FilterMemory.
func (f *filterMemory) Save(ctx context.Context, filters []string) error {
	value, err := json.Marshal(filters)
	if err != nil {
		return err
	}
	return f.marks.Put(ctx, f.key, value)
}
