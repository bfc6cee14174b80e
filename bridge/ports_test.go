package bridge_test

import (
	"testing"

	"fleetbridge/bridge"
	"fleetbridge/bridge/porttest"
	"fleetbridge/mapping"
)

// The fakes of this package's tests keep what the ports promise.

func TestFakeLanes(t *testing.T) {
	porttest.Lanes(t, func(_ *testing.T, o porttest.LaneOptions) *porttest.LaneHouse {
		return lanes(bridge.NewFakeLanes(o.Things, o.MaxBytes), o.Things)
	})
}

func lanes(l *bridge.FakeLanes, things []mapping.Thing) *porttest.LaneHouse {
	return &porttest.LaneHouse{Lanes: l, Publish: l.Publish, Kill: func() *porttest.LaneHouse { return lanes(l.Killed(things), things) }}
}

func TestFakeViews(t *testing.T) {
	porttest.Views(t, func(*testing.T) *porttest.ViewHouse {
		v := bridge.NewFakeViews()
		h := &porttest.ViewHouse{Down: v.Down, Archive: v.Past, Graveyard: v.Grave, Shadows: bridge.NewFakeState(), Letters: v.Letters}
		h.Kill = func() *porttest.ViewHouse { return h }
		return h
	})
}

func TestFakeState(t *testing.T) {
	porttest.State(t, func(*testing.T) *porttest.StateHouse {
		h := &porttest.StateHouse{State: bridge.NewFakeState()}
		h.Kill = func() *porttest.StateHouse { return h }
		return h
	})
}
