//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
)

// everyFlow is the first part of the checklist: all flows, one after the other.
func (p *program) everyFlow(ctx context.Context) {
	fly := ""
	begin := func() (err error) {
		fly, err = p.command("fly", map[string]any{}) // takes as long as the bridge waits for a handler
		if err != nil {
			return err
		}
		return p.reports(ctx, "temperature and target", func(s shadow) bool {
			return s.Reported.Temperature != nil && is(s.Reported.Target, 20)
		})
	}
	if !p.check(checkReport, begin) {
		return
	}
	p.check(checkCommand, func() error { return p.obeys(ctx, 30) })
	p.check(checkEvent, func() error { return p.overheats(ctx) })
	p.check(checkRefusal, func() error { return p.refuses(ctx, fly) })
	p.check(checkDelta, func() error { return p.follows(ctx, 21) })
	p.check(checkJob, func() error {
		id := "firmware 2.0 " + p.language.name // an id that has to be escaped
		if err := p.createJob(id, 0.5); err != nil {
			return err
		}
		return p.finishes(ctx, id)
	})
}

// reports waits for a shadow; what says how it should be.
func (p *program) reports(ctx context.Context, what string, right func(shadow) bool) error {
	return until(ctx, p.process, p.patience, func() error {
		s, err := p.shadow()
		if err != nil || right(s) {
			return err
		}
		return fmt.Errorf("want %s reported; reported is %v, delta %v", what, s.Reported, s.Delta)
	})
}

func (s state) String() string {
	var parts []string
	if s.Temperature != nil {
		parts = append(parts, fmt.Sprintf("temperature %v", *s.Temperature))
	}
	if s.Target != nil {
		parts = append(parts, fmt.Sprintf("targetTemperature %v", *s.Target))
	}
	return "(" + strings.Join(parts, ", ") + ")"
}

func is(got *float64, want float64) bool { return got != nil && *got == want }

// obeys sends a good command; its effect is reported.
func (p *program) obeys(ctx context.Context, value float64) error {
	id, err := p.command("setTemperature", map[string]any{"value": value})
	if err != nil {
		return err
	}
	e, err := p.ends(ctx, id)
	switch {
	case err != nil:
		return err
	case e.Status != "SUCCEEDED" || !is(e.Result.Target, value):
		return fmt.Errorf("the command ended %s, responses %s", e.Status, e.Responses)
	case len(e.Responses) != 1:
		return fmt.Errorf("the command has %d responses", len(e.Responses))
	}
	return nil
}

// ends waits for the end of a command.
func (p *program) ends(ctx context.Context, id string) (e execution, err error) {
	err = until(ctx, p.process, p.patience, func() error {
		if e, err = p.execution(id); err == nil && e.Status == "SENT" {
			return errors.New("the command has no response")
		}
		return err
	})
	return e, err
}

// overheats waits for the event: the target is 30, and it is too warm above 28.
func (p *program) overheats(ctx context.Context) error {
	if err := p.reports(ctx, "targetTemperature 30", func(s shadow) bool { return is(s.Reported.Target, 30) }); err != nil {
		return err
	}
	return until(ctx, p.process, p.patience, func() error {
		all, err := p.events()
		if err != nil {
			return err
		}
		for _, e := range all {
			if e.EventType != "overheated" || e.Severity != "warn" || e.Data.Temperature == nil || *e.Data.Temperature <= 28 || e.Timestamp == 0 {
				return fmt.Errorf("a wrong event: %+v, data %v", e, e.Data)
			}
		}
		if len(all) == 0 {
			return errors.New("no event has come")
		}
		return nil
	})
}

// refuses sends commands that can't be carried out. fly is one that the program does not know.
func (p *program) refuses(ctx context.Context, fly string) error {
	for _, params := range []any{map[string]any{"value": "hot"}, map[string]any{"value": 99}, map[string]any{}} {
		if err := p.fails(ctx, params); err != nil {
			return err
		}
	}
	e, err := p.ends(ctx, fly)
	if err != nil {
		return err
	}
	if e.Status != "REJECTED" || e.Result.Error != "no handler for fly" {
		return fmt.Errorf("an action that nobody serves ended %s, responses %s", e.Status, e.Responses)
	}
	return nil
}

// fails sends a command with params that are no good.
func (p *program) fails(ctx context.Context, params any) error {
	id, err := p.command("setTemperature", params)
	if err != nil {
		return err
	}
	e, err := p.ends(ctx, id)
	if err == nil && (e.Status != "FAILED" || !strings.Contains(e.Result.Error, "params.value")) {
		err = fmt.Errorf("with params %v it ended %s, responses %s", params, e.Status, e.Responses)
	}
	return err
}

// follows sets what is desired, and waits until it is reported and no delta is left.
func (p *program) follows(ctx context.Context, target float64) error {
	if err := p.desire(target); err != nil {
		return err
	}
	return p.followed(ctx, target)
}

func (p *program) followed(ctx context.Context, target float64) error {
	return p.reports(ctx, fmt.Sprintf("targetTemperature %v", target), func(s shadow) bool {
		return is(s.Reported.Target, target) && s.Delta.Target == nil
	})
}

// finishes waits for a job's good end, which comes after a report of its progress.
func (p *program) finishes(ctx context.Context, id string) error {
	return until(ctx, p.process, p.patience, func() error {
		e, err := p.job(id)
		if err != nil {
			return err
		}
		// Queued is version 1; every update counts.
		if e.Status != "SUCCEEDED" || e.StatusDetails.Progress != "done" || e.VersionNumber < 3 {
			return fmt.Errorf("job %s is %s, progress %q, version %d", id, e.Status, e.StatusDetails.Progress, e.VersionNumber)
		}
		return nil
	})
}

// Jobs around the bridge's death.
const underWay, queued = "under way", "queued meanwhile"

func (p *program) jobName(which string) string { return which + " for " + p.language.name }

// beginJob has the program in the middle of a job, and warming up. What goes wrong shows in goesOn.
func (p *program) beginJob(ctx context.Context) {
	id := p.jobName(underWay)
	if p.createJob(id, 3) != nil {
		return
	}
	_ = until(ctx, p.process, p.patience, func() error {
		e, err := p.job(id)
		if err == nil && (e.Status != "IN_PROGRESS" || e.StatusDetails.Progress == "") {
			err = errors.New("the job has not begun")
		}
		return err
	})
	_ = p.follows(ctx, 27)
}

// meanwhile is what the cloud wants while the bridge is gone. What goes wrong shows in goesOn.
func (p *program) meanwhile() {
	_ = p.desire(10)
	_ = p.createJob(p.jobName(queued), 0)
}

// goesOn is the checklist's part after the bridge's death: commands, what came meanwhile, jobs, reports.
func (p *program) goesOn(ctx context.Context) {
	if p.cells[checkReport] == failed {
		return
	}
	p.patience = recovery
	p.check(checkRestart, func() error {
		if err := p.fails(ctx, map[string]any{"value": "hot"}); err != nil { // at once; it changes nothing
			return err
		}
		if err := p.followed(ctx, 10); err != nil {
			return err
		}
		for _, which := range []string{underWay, queued} {
			if err := p.finishes(ctx, p.jobName(which)); err != nil {
				return err
			}
		}
		if err := p.obeys(ctx, 12); err != nil {
			return err
		}
		err := p.reports(ctx, "a temperature of nearly 12", func(s shadow) bool {
			return is(s.Reported.Target, 12) && s.Reported.Temperature != nil && math.Abs(*s.Reported.Temperature-12) < 0.2
		})
		if err != nil {
			return err
		}
		return gapless(p.temperatures())
	})
}
