package doctor

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// rough is how well a Date header tells the time: it has whole seconds.
const rough = 2 * time.Second

// clock compares this machine's clock with the one of the Fleets HTTP API, the only server that tells its
// time. Commands run or expire by it.
func (d *Doctor) clock(ctx context.Context) {
	if d.over(ctx, checkClock) {
		return
	}
	if d.cfg.Fleets.URL == "" {
		d.skip(checkClock, "", "unknown: MQTT does not tell the time, and fleets.url is not set")
		return
	}
	ctx, cancel := d.step(ctx)
	defer cancel()
	theirs, ours, err := d.date(ctx)
	if err != nil {
		d.skip(checkClock, "", "unknown: "+cause(err))
		return
	}
	ahead := ours.Sub(theirs)
	size, side := ahead.Abs().Round(time.Second), "ahead of"
	if ahead < 0 {
		side = "behind"
	}
	allowed := max(d.cfg.Commands.ClockSkew, rough)
	switch {
	case ahead.Abs() <= rough:
		d.ok(checkClock, "", "agrees with the cloud's")
	case ahead.Abs() <= allowed:
		d.ok(checkClock, "", "%s %s the cloud's, commands.clock_skew allows %s", size, side, d.cfg.Commands.ClockSkew)
	default:
		what := "commands are taken for expired, and answered TIMED_OUT unheard"
		if ahead < 0 {
			what = "commands run after their time"
		}
		d.add(Finding{Fail, checkClock, "", fmt.Sprintf("%s %s the cloud's, commands.clock_skew allows %s: %s", size, side, d.cfg.Commands.ClockSkew, what),
			"set this machine's clock, for example: timedatectl set-ntp true"})
	}
}

// date asks the API for anything, without a login: every answer has the time.
func (d *Doctor) date(ctx context.Context) (theirs, ours time.Time, err error) {
	config, err := d.cfg.Fleets.TLS.Client()
	if err != nil {
		return theirs, ours, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, d.cfg.Fleets.URL, nil)
	if err != nil {
		return theirs, ours, err
	}
	client := &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	before := d.options.Now()
	answer, err := client.Do(r)
	if err != nil {
		return theirs, ours, err
	}
	defer answer.Body.Close()
	after := d.options.Now()
	if theirs, err = http.ParseTime(answer.Header.Get("Date")); err != nil {
		return theirs, ours, fmt.Errorf("the Fleets HTTP API does not tell the time")
	}
	// The header is cut to whole seconds.
	return theirs.Add(500 * time.Millisecond), before.Add(after.Sub(before) / 2), nil
}
