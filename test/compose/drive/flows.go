package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nuid"
)

// flows sees each kind of message through to its end: the sample program follows, serves and does.
func (d *driver) flows(ctx context.Context) error {
	began := time.Now()
	for _, step := range []func(context.Context) error{d.report, d.follow, d.command, d.job} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	say("flows: all of them, in %.1f s", time.Since(began).Seconds())
	return nil
}

// report is answered by the bridge, and merged with what the sample program reports.
func (d *driver) report(ctx context.Context) error {
	mark := nuid.Next()
	payload, _ := json.Marshal(map[string]any{"state": map[string]any{"reported": map[string]any{"drive": mark}}})
	err := until(ctx, "report", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		answer, err := d.nc.RequestWithContext(ctx, "fleets.req."+d.thing+".shadow.update", payload)
		if err == nil && answer.Header.Get("Nats-Service-Error-Code") != "" {
			err = fmt.Errorf("%s", answer.Header.Get("Nats-Service-Error"))
		}
		return err
	})
	if err != nil {
		return err
	}
	say("shadow: reported, the gateway has it")
	return until(ctx, "report", func(ctx context.Context) error {
		s, err := d.cloud.shadow(ctx, d.thing)
		switch {
		case err != nil:
			return err
		case s.Reported["drive"] != mark:
			return fmt.Errorf("the cloud has drive %v, not %s", s.Reported["drive"], mark)
		case s.Reported["temperature"] == nil:
			return fmt.Errorf("the cloud has no temperature of the sample program: %v", s.Reported)
		}
		say("shadow: the cloud has it, beside the temperature of the sample program")
		return nil
	})
}

// follow changes the desired state; the sample program reports it, and nothing is left.
func (d *driver) follow(ctx context.Context) error {
	target := 5 + float64(time.Now().UnixMilli()%200)/10
	if err := until(ctx, "desired state", func(ctx context.Context) error {
		return d.cloud.desire(ctx, d.thing, map[string]any{"targetTemperature": target})
	}); err != nil {
		return err
	}
	return until(ctx, "desired state", func(ctx context.Context) error {
		s, err := d.cloud.shadow(ctx, d.thing)
		switch {
		case err != nil:
			return err
		case s.Reported["targetTemperature"] != target || len(s.Delta) > 0:
			return fmt.Errorf("reported %v, delta %v, desired %v", s.Reported, s.Delta, target)
		}
		say("shadow: the sample program follows to %v, no delta is left", target)
		return nil
	})
}

func (d *driver) command(ctx context.Context) error {
	var sent execution
	if err := until(ctx, "command", func(ctx context.Context) (err error) {
		sent, err = d.cloud.command(ctx, d.thing, 21)
		return err
	}); err != nil {
		return err
	}
	e, err := d.answered(ctx, sent)
	if err != nil {
		return err
	}
	if e.Status != "SUCCEEDED" || len(e.Responses) != 1 {
		return fmt.Errorf("command: %s with %d responses", e.Status, len(e.Responses))
	}
	say("command: SUCCEEDED, one response")
	return nil
}

// answered waits for the end of a command.
func (d *driver) answered(ctx context.Context, sent execution) (e execution, err error) {
	err = until(ctx, "command "+sent.ID, func(ctx context.Context) error {
		if e, err = d.cloud.outcome(ctx, sent.ID); err != nil {
			return err
		}
		if e.Status == "SENT" {
			return fmt.Errorf("no response")
		}
		return nil
	})
	return e, err
}

func (d *driver) job(ctx context.Context) error {
	id := "drive-" + nuid.Next()
	if err := until(ctx, "job", func(ctx context.Context) error { return d.cloud.job(ctx, d.thing, id) }); err != nil {
		return err
	}
	if err := d.done(ctx, id); err != nil {
		return err
	}
	say("job: SUCCEEDED")
	return nil
}

// done waits until a job has succeeded.
func (d *driver) done(ctx context.Context, id string) error {
	return until(ctx, "job "+id, func(ctx context.Context) error {
		status, err := d.cloud.jobStatus(ctx, id)
		if err == nil && status != "SUCCEEDED" {
			err = fmt.Errorf("is %s", status)
		}
		return err
	})
}
