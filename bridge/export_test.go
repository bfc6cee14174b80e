package bridge

import (
	"context"
	"sync"

	"fleetbridge/mapping"
)

// The fakes, for the list of what the ports promise, which imports this package.

type (
	FakeLanes = outbox
	FakeState = memory
)

func NewFakeState() *FakeState { return newMemory() }

func NewFakeLanes(things []mapping.Thing, most int64) *FakeLanes {
	return &outbox{things: things, most: int(most), ids: map[string]bool{}}
}

// Publish stores a message as a program does.
func (o *outbox) Publish(_ context.Context, a mapping.Address, payload []byte, id string) error {
	_, err := o.store(Message{Address: a, Payload: payload}, id)
	return err
}

// Killed is what is left after a kill.
func (o *outbox) Killed(things []mapping.Thing) *FakeLanes {
	o.mu.Lock()
	defer o.mu.Unlock()
	return &outbox{things: things, most: o.most, sent: o.sent, number: o.number, before: o.number - uint64(len(o.sent)), ids: o.ids}
}

// FakeViews are a sink that an archive hears of, and a graveyard.
type FakeViews struct {
	Down  Sink
	Past  Archive
	Grave Graveyard
	dead  *graveyard
}

func NewFakeViews() *FakeViews {
	past, dead := archive{}, &graveyard{}
	var mu sync.Mutex
	down := &sink{on: func(m Message) {
		mu.Lock()
		defer mu.Unlock()
		past[m.Address] = m
	}}
	return &FakeViews{down, past, dead, dead}
}

func (v *FakeViews) Letters(context.Context) (codes []Code, payloads [][]byte, err error) {
	for _, l := range v.dead.letters {
		codes, payloads = append(codes, l.Rejection.Code), append(payloads, l.Payload)
	}
	return codes, payloads, nil
}
