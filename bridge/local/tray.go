package local

import (
	"context"
	"sync"

	"fleetbridge/bridge"
	"fleetbridge/internal/flow"
)

// tray is where a queue puts deliveries for its pump. Its bound is what the queue asks for. It takes memory
// only for what is in it.
type tray struct {
	mu    sync.Mutex
	items []bridge.Delivery
	taken []bridge.Delivery
	more  chan struct{} // items is not empty any more
	room  chan struct{} // some were taken
}

// takeMost is how many deliveries are handed out together.
const takeMost = 16

func newTray() tray { return tray{more: make(chan struct{}, 1), room: make(chan struct{}, 1)} }

func (t *tray) put(d bridge.Delivery) {
	t.mu.Lock()
	t.items = append(t.items, d)
	t.mu.Unlock()
	flow.Signal(t.more)
}

func (t *tray) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.items)
}

// take waits for deliveries; see bridge.Source.
func (t *tray) take(ctx context.Context, most int) []bridge.Delivery {
	for ctx.Err() == nil {
		if out := t.next(most); len(out) > 0 {
			flow.Signal(t.room)
			return out
		}
		select {
		case <-t.more:
		case <-ctx.Done():
		}
	}
	return nil
}

func (t *tray) next(most int) []bridge.Delivery {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.taken)
	n := min(len(t.items), most)
	t.taken = append(t.taken[:0], t.items[:n]...)
	clear(t.items[:n])
	if t.items = t.items[n:]; len(t.items) == 0 {
		t.items = nil
	}
	return t.taken
}
