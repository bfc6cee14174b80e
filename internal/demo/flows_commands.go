package demo

import (
	"context"
	"fmt"
	"time"

	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

// Flows of commands.

// ends sends a command and waits until the cloud knows how it ended.
func (s *stage) ends(ctx context.Context, c fleetsim.Command, status, result string) error {
	c.Thing = Thing
	if _, err := s.sim.SendCommand(c); err != nil {
		return err
	}
	x, err := s.sim.WaitCommand(ctx, c.ID)
	if err != nil {
		x, _ = s.sim.Command(c.ID)
		return missing("command "+c.ID+" in the cloud", status, x.Status)
	}
	if err := expect("command "+c.ID+" in the cloud", status+" "+result, fmt.Sprintf("%s %s", x.Status, x.Result)); err != nil {
		return err
	}
	return expect("responses to "+c.ID, 1, len(x.Responses))
}

func (s *stage) command(ctx context.Context) error {
	c := fleetsim.Command{ID: "cmd-1", Action: "setTemperature", Params: []byte(`{"value":23}`), TTL: 30 * time.Second}
	if err := s.ends(ctx, c, fleetsim.Succeeded, `{"targetTemperature":23}`); err != nil {
		return err
	}
	if err := expect("commands that the thermostat ran", 1, s.thermostat.served.Load()); err != nil {
		return err
	}
	if err := s.reported(ctx, `{"targetTemperature":23}`); err != nil {
		return err
	}
	s.tick(ctx, "cmd-1 is SUCCEEDED in the cloud, with the program's result; the program reports what it did")
	return nil
}

func (s *stage) unserved(ctx context.Context) error {
	c := fleetsim.Command{ID: "cmd-2", Action: "openWindow", TTL: 30 * time.Second}
	if err := s.ends(ctx, c, fleetsim.Rejected, `{"error":"no handler for openWindow"}`); err != nil {
		return err
	}
	s.tick(ctx, "cmd-2 is REJECTED in the cloud, with the reason")
	return nil
}

func (s *stage) redelivered(ctx context.Context) error {
	ran := s.thermostat.served.Load()
	duplicates := func() (int, error) {
		return s.metric(ctx, "fleetbridge_messages_total", `channel="command.request"`, `outcome="duplicate"`)
	}
	before, err := duplicates()
	if err != nil {
		return err
	}
	if err := s.sim.RepeatCommand("cmd-1"); err != nil {
		return err
	}
	s.repeated++
	now := before
	if !s.poll(ctx, func() bool { now, err = duplicates(); return err == nil && now > before }) {
		return missing("duplicate requests in the metrics", fmt.Sprint(before+1), now)
	}
	s.journal.dropped(mapping.Address{Thing: Thing, Channel: mapping.CommandRequest, ID: "cmd-1"}, "dropped, a duplicate")
	x, err := s.sim.Command("cmd-1")
	if err != nil {
		return err
	}
	if err := expect("responses to cmd-1", 1, len(x.Responses)); err != nil {
		return err
	}
	if err := expect("commands that the thermostat ran meanwhile", 0, s.thermostat.served.Load()-ran); err != nil {
		return err
	}
	s.tick(ctx, "the thermostat ran it once, the cloud has one response, the metrics count one duplicate")
	return nil
}

func (s *stage) expired(ctx context.Context) error {
	ran := s.thermostat.served.Load()
	c := fleetsim.Command{
		Thing: Thing, ID: "cmd-3", Action: "setTemperature", Params: []byte(`{"value":30}`),
		TTL: 30 * time.Second, Issued: time.Now().Add(-10 * time.Minute),
	}
	if _, err := s.sim.SendCommand(c); err != nil {
		return err
	}
	x, err := s.sim.WaitCommand(ctx, c.ID)
	if err != nil {
		return missing("command cmd-3 in the cloud", fleetsim.TimedOut, fleetsim.Sent)
	}
	if err := expect("command cmd-3 in the cloud", "TIMED_OUT by 1 response", fmt.Sprintf("%s by %d response", x.Status, len(x.Responses))); err != nil {
		return err
	}
	letter, err := s.letter(ctx, "fleets.dead.down."+Thing+".commands.cmd-3.request")
	if err != nil {
		return err
	}
	if err := expect("the dead letter's code", "expired", letter.Header.Get("Fleets-Error-Code")); err != nil {
		return err
	}
	if err := expect("commands that the thermostat ran", 0, s.thermostat.served.Load()-ran); err != nil {
		return err
	}
	s.tick(ctx, "cmd-3 is TIMED_OUT in the cloud, did not run, and is dead letter %d (expired)", letter.Sequence)
	return nil
}
