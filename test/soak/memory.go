package soak

import (
	"context"
	"strings"
	"sync"

	"fleetbridge/bridge"
)

// memory is a bridge.Bucket.
type memory struct {
	mu     sync.Mutex
	values map[string][]byte
}

func newMemory() *memory { return &memory{values: map[string][]byte{}} }

func (m *memory) Get(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok := m.values[key]; ok {
		return v, nil
	}
	return nil, bridge.ErrNotFound
}

func (m *memory) Put(_ context.Context, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[key] = value
	return nil
}

func (m *memory) GetNoted(ctx context.Context, key string) (value, note []byte, err error) {
	value, err = m.Get(ctx, key)
	return value, nil, err
}

func (m *memory) PutNoted(ctx context.Context, key string, value, _ []byte) error {
	return m.Put(ctx, key, value)
}

func (m *memory) Create(_ context.Context, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.values[key]; ok {
		return bridge.ErrExists
	}
	m.values[key] = value
	return nil
}

func (m *memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, key)
	return nil
}

func (m *memory) List(_ context.Context, prefix string, f func(string, []byte) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, value := range m.values {
		if strings.HasPrefix(key, prefix) {
			if err := f(key, value); err != nil {
				return err
			}
		}
	}
	return nil
}
