package porttest

import (
	"context"
	"errors"
	"testing"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// LaneHouse is an implementation of bridge.Lanes under test.
type LaneHouse struct {
	bridge.Lanes
	// Publish stores a message as a program does. id is its message id; empty: it has none.
	Publish  func(ctx context.Context, a mapping.Address, payload []byte, id string) error
	TooLarge int // bytes, of which no payload may have so many; 0: there is no limit
	// Kill ends the implementation without ceremony, and opens what it has left behind with the Things of the start.
	// No lanes run when it is called.
	Kill func() *LaneHouse
}

// LaneOptions say what a LaneHouse is opened with.
type LaneOptions struct {
	Things   []mapping.Thing
	MaxBytes int64 // that it may hold of a class; 0: enough
	Window   int   // deliveries of a lane that may be unsettled, about; 0: as it is
}

// Lanes asks an implementation of bridge.Lanes for all that the port promises. open makes one that is empty.
func Lanes(t *testing.T, open func(t *testing.T, o LaneOptions) *LaneHouse) {
	all := LaneOptions{Things: []mapping.Thing{pump, fan}, Window: 80}
	for _, p := range []promise[*LaneHouse]{
		{"order", laneOrder}, {"order of many", laneOrderOfMany}, {"from the floor after a flush", laneFloor}, {"from the floor after a kill", laneKill},
		{"a kind holds up no other", laneKinds}, {"taken over", laneTakenOver}, {"removed", laneRemoved}, {"things come and go", laneThings},
		{"an id counts once", laneIDs}, {"enqueue", laneEnqueue}, {"pending", lanePending}, {"too large", laneTooLarge}, {"counts", laneCounts}, {"nothing", laneNothing},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			p.test(t, open(t, all))
		})
	}
	t.Run("full", func(t *testing.T) {
		laneFull(t, open(t, LaneOptions{Things: []mapping.Thing{pump}, MaxBytes: 64 << 10}))
	})
}

const (
	pump = mapping.Thing("pump")
	fan  = mapping.Thing("com.acme fan")
)

func event(t mapping.Thing) mapping.Address {
	return mapping.Address{Thing: t, Channel: mapping.Event, ID: "x"}
}

func report(t mapping.Thing) mapping.Address {
	return mapping.Address{Thing: t, Channel: mapping.ShadowReport}
}

func response(t mapping.Thing, id string) mapping.Address {
	return mapping.Address{Thing: t, Channel: mapping.CommandResponse, ID: id}
}

// taker runs the lanes of a Thing and takes from them, one delivery at a time.
type taker struct {
	t     *testing.T
	lanes bridge.ThingLanes
	taken map[mapping.Kind][]bridge.Delivery
	end   context.CancelFunc
	ended chan error
}

func (h *LaneHouse) take(t *testing.T, thing mapping.Thing) *taker {
	t.Helper()
	lanes, err := h.TakeOver(deadline(t), thing)
	must(t, err)
	x := &taker{t: t, lanes: lanes, taken: map[mapping.Kind][]bridge.Delivery{}, ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	x.end = cancel
	t.Cleanup(cancel)
	go func() { x.ended <- lanes.Run(ctx) }()
	return x
}

// next waits for a delivery.
func (x *taker) next(k mapping.Kind) bridge.Delivery {
	x.t.Helper()
	if len(x.taken[k]) == 0 {
		x.taken[k] = append(x.taken[k], x.lanes.Lane(k).Take(deadline(x.t))...)
	}
	if len(x.taken[k]) == 0 {
		x.t.Fatalf("no delivery of %s", k)
	}
	d := x.taken[k][0]
	x.taken[k] = x.taken[k][1:]
	return d
}

// expect takes deliveries with these payloads.
func (x *taker) expect(k mapping.Kind, payloads ...string) (ds []bridge.Delivery) {
	x.t.Helper()
	for _, want := range payloads {
		d := x.next(k)
		if string(d.Payload) != want || d.Err != nil {
			x.t.Fatalf("%s: %s, %v, want %s", k, d.Payload, d.Err, want)
		}
		ds = append(ds, d)
	}
	return ds
}

// settle takes and settles deliveries with these payloads.
func (x *taker) settle(k mapping.Kind, payloads ...string) {
	x.t.Helper()
	for _, d := range x.expect(k, payloads...) {
		d.Settle()
	}
}

func (x *taker) flush() {
	x.t.Helper()
	must(x.t, x.lanes.Flush(deadline(x.t)))
}

// stop ends the lanes, whose Run returns this.
func (x *taker) stop(want error) {
	x.t.Helper()
	if want == nil {
		x.end()
	}
	select {
	case err := <-x.ended:
		if !errors.Is(err, want) || want == nil && err != nil {
			x.t.Errorf("Run: %v, want %v", err, want)
		}
	case <-deadline(x.t).Done():
		x.t.Fatal("Run does not return")
	}
}

// publish stores messages of an address as a program does.
func (h *LaneHouse) publish(t *testing.T, a mapping.Address, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		must(t, h.Publish(deadline(t), a, []byte(p), ""))
	}
}

func (h *LaneHouse) queued(t *testing.T, thing mapping.Thing) uint64 {
	t.Helper()
	n, err := h.Queued(deadline(t))
	must(t, err)
	return n[thing]
}
