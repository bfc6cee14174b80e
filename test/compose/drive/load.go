package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// pace is the time between two events, so that what others break falls into the middle.
const pace = 40 * time.Millisecond

// every how many events there is a command, and a job.
const (
	commandEvery = 40
	jobEvery     = 120
)

// load publishes events one after the other, each until the gateway has confirmed it, and has the cloud
// send commands and jobs meanwhile. Then it waits until all is where it belongs, and counts.
func (d *driver) load(ctx context.Context, events int) error {
	run := nuid.Next()
	operator := make(chan int, events)
	result := make(chan orders, 1)
	go func() { result <- d.operate(ctx, run, operator) }()
	refused := 0
	for n := 1; n <= events; n++ {
		tries, err := d.publish(ctx, run, n)
		if err != nil {
			return fmt.Errorf("event %d: %w", n, err)
		}
		refused += tries - 1
		operator <- n
		if n%10 == 0 {
			say("confirmed %d", n)
		}
		time.Sleep(pace)
	}
	close(operator)
	say("all %d events are confirmed, %d tries were not", events, refused)
	given := <-result
	if given.err != nil {
		return given.err
	}
	if err := d.countEvents(ctx, newArrivals(run), events); err != nil {
		return err
	}
	return d.countOrders(ctx, given)
}

// events publishes events one after the other until told ends, and then counts them.
func (d *driver) events(ctx, told context.Context) error {
	run, n, refused := nuid.Next(), 0, 0
	there := newArrivals(run)
	for told.Err() == nil {
		n++
		tries, err := d.publish(ctx, run, n)
		if err != nil {
			return fmt.Errorf("event %d: %w", n, err)
		}
		refused += tries - 1
		if n%10 == 0 {
			say("confirmed %d", n)
		}
		if n%100 == 0 {
			if err := d.look(ctx, there); err != nil {
				return err
			}
		}
		time.Sleep(pace)
	}
	say("all %d events are confirmed, %d tries were not", n, refused)
	return d.countEvents(ctx, there, n)
}

// publish hands one event over. A try that was not confirmed may have arrived all the same: the id is the
// same for all.
func (d *driver) publish(ctx context.Context, run string, n int) (tries int, err error) {
	payload, _ := json.Marshal(map[string]any{"eventType": "tick", "severity": "info", "data": map[string]any{"run": run, "n": n}})
	id := fmt.Sprintf("%s-%d", run, n)
	err = until(ctx, "not confirmed", func(ctx context.Context) error {
		tries++
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := d.js.Publish(ctx, "fleets.up."+d.thing+".events.tick", payload, jetstream.WithMsgID(id), jetstream.WithRetryAttempts(0))
		return err
	})
	return tries, err
}

// orders are what the cloud was told to order.
type orders struct {
	commands []execution
	jobs     []string
	err      error
}

// operate gives orders as the events go by, late when the cloud is cut off.
func (d *driver) operate(ctx context.Context, run string, events <-chan int) (o orders) {
	for n := range events {
		if n%commandEvery == 0 {
			var e execution
			if o.err = until(ctx, "command", func(ctx context.Context) (err error) {
				e, err = d.cloud.command(ctx, d.thing, float64(15+n%10))
				return err
			}); o.err != nil {
				return o
			}
			o.commands = append(o.commands, e)
		}
		if n%jobEvery == 0 {
			id := fmt.Sprintf("%s-%d", run, n)
			if o.err = until(ctx, "job", func(ctx context.Context) error { return d.cloud.job(ctx, d.thing, id) }); o.err != nil {
				return o
			}
			o.jobs = append(o.jobs, id)
		}
	}
	return o
}

// arrivals are the events of a run as the cloud has them. The cloud forgets the oldest of a thousand, so it is asked now and then.
type arrivals struct {
	run                string
	times              map[int]int
	disordered, newest int
	last               time.Time
}

func newArrivals(run string) *arrivals { return &arrivals{run: run, times: map[int]int{}} }

func (a *arrivals) take(got []event) {
	for _, e := range got {
		if e.Data.Run != a.run || !e.Arrived.After(a.last) {
			continue
		}
		n := e.Data.N
		if a.last, a.times[n] = e.Arrived, a.times[n]+1; a.times[n] == 1 {
			if n < a.newest {
				a.disordered++
			}
			a.newest = n
		}
	}
}

func (d *driver) look(ctx context.Context, a *arrivals) error {
	got, err := d.cloud.events(ctx, d.thing)
	a.take(got)
	return err
}

// countEvents waits for the last event, then looks for every one, in its order.
func (d *driver) countEvents(ctx context.Context, a *arrivals, events int) error {
	if err := until(ctx, "events", func(ctx context.Context) error {
		err := d.look(ctx, a)
		if err == nil && a.times[events] == 0 {
			err = fmt.Errorf("the last one is not there")
		}
		return err
	}); err != nil {
		return err
	}
	lost, twice := 0, 0
	for n := 1; n <= events; n++ {
		switch {
		case a.times[n] == 0:
			lost++
		case a.times[n] > 1:
			twice++
		}
	}
	say("events: %d confirmed, %d lost, %d out of order, %d more than once", events, lost, a.disordered, twice)
	if lost+a.disordered > 0 {
		return fmt.Errorf("%d events are lost and %d out of order", lost, a.disordered)
	}
	return nil
}

func (d *driver) countOrders(ctx context.Context, o orders) error {
	for _, sent := range o.commands {
		e, err := d.answered(ctx, sent)
		if err != nil {
			return err
		}
		if e.Status != "SUCCEEDED" || len(e.Responses) != 1 {
			return fmt.Errorf("command %s: %s with %d responses", e.ID, e.Status, len(e.Responses))
		}
	}
	say("commands: %d sent, %d SUCCEEDED with one response each", len(o.commands), len(o.commands))
	for _, id := range o.jobs {
		if err := d.done(ctx, id); err != nil {
			return err
		}
	}
	say("jobs: %d created, %d SUCCEEDED", len(o.jobs), len(o.jobs))
	return nil
}
