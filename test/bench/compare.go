package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"fleetbridge/internal/bench"
)

// contest is one table's worth of trials: a way, a broker, and who takes part.
type contest struct {
	kind       bench.Kind
	broker     string
	contenders []string
}

var contests = []contest{
	{bench.Down, onMosquitto, []string{direct, mosquittos, stock, tuned, relaxed, synced}},
	{bench.Up, onMosquitto, []string{direct, mosquittos, stock, tuned, relaxed, synced}},
	{bench.Down, onFree, []string{stock, tuned, relaxed, synced}},
	{bench.Up, onFree, []string{stock, tuned, relaxed, synced}},
}

// scores are a contender's results, one a run.
type scores []bench.Result

func (s scores) rate() float64 { return median(s, bench.Result.Rate) }

func (s scores) each() time.Duration {
	return time.Duration(median(s, func(r bench.Result) float64 { return float64(r.Each(r.Subject)) }))
}

func (s scores) own() time.Duration {
	return time.Duration(median(s, func(r bench.Result) float64 { return float64(r.Each(r.Own)) }))
}

// compare measures every contender once, then all of them again, so that what the machine does
// meanwhile hits all of them alike.
func (p plan) compare(ctx context.Context) error {
	results := map[string]scores{}
	key := func(c contest, name string) string { return string(c.kind) + c.broker + name }
	for n := range p.runs {
		for _, c := range contests {
			for _, name := range c.contenders {
				r, err := p.measure(ctx, trial{contender: name, broker: c.broker, load: p.load(c.kind, 1)})
				if err != nil {
					return fmt.Errorf("%s, %s, %s: %w", c.kind, c.broker, name, err)
				}
				fmt.Fprintf(os.Stderr, "run %d of %d: %s, %s, %s: %.0f/s\n", n+1, p.runs, c.kind, c.broker, name, r.Rate())
				results[key(c, name)] = append(results[key(c, name)], r)
			}
		}
	}
	p.printf("Messages a second, medians of %d runs of %s; %d-byte payloads, QoS 1, one Thing, everything on the same %s.\n",
		p.runs, p.duration, p.size, machine())
	for _, c := range contests {
		p.printf("\n**%s, %s**\n\n", way(c.kind), c.broker)
		t := table{head: []string{"", "messages/s", "of stock pass-through", "of no bridge", "CPU a message", "load's CPU a message"}}
		base, bare := results[key(c, stock)].rate(), results[key(c, direct)].rate()
		for _, name := range c.contenders {
			s := results[key(c, name)]
			t.add(name, grouped(s.rate()), ratio(s.rate(), base), ratio(s.rate(), bare), micros(s.each()), micros(s.own()))
		}
		p.printf("%s", t)
	}
	return nil
}

func way(k bench.Kind) string {
	if k == bench.Up {
		return "Up: program → cloud"
	}
	return "Down: cloud → program"
}

// latency measures what a bridge adds at a steady rate, and round trips at rest.
func (p plan) latency(ctx context.Context) error {
	const rate = 5000
	type row struct {
		name   string
		trial  trial
		scores scores
	}
	var rows []*row
	for _, k := range []bench.Kind{bench.Down, bench.Up} {
		for _, name := range []string{direct, stock, synced, relaxed} {
			l := p.load(k, 1)
			l.Rate = rate
			rows = append(rows, &row{name: fmt.Sprintf("%s, %s/s: %s", k, grouped(rate), name), trial: trial{contender: name, broker: onMosquitto, load: l}})
		}
	}
	for _, k := range []bench.Kind{bench.Command, bench.Req} {
		rows = append(rows, &row{name: string(k) + ", one at a time: " + synced, trial: trial{contender: synced, broker: onMosquitto, load: p.load(k, 1)}})
	}
	for n := range p.runs {
		for _, r := range rows {
			got, err := p.measure(ctx, r.trial)
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			fmt.Fprintf(os.Stderr, "run %d of %d: %s: p50 %s\n", n+1, p.runs, r.name, got.Percentile(50))
			r.scores = append(r.scores, got)
		}
	}
	p.printf("Latency, medians of %d runs of %s; %d-byte payloads, QoS 1, mosquitto, one Thing, everything on the same %s.\n\n", p.runs, p.duration, p.size, machine())
	t := table{head: []string{"", "p50", "p90", "p99", "p99.9", "reached"}}
	for _, r := range rows {
		cells := []string{r.name}
		for _, at := range []float64{50, 90, 99, 99.9} {
			cells = append(cells, millis(median(r.scores, func(r bench.Result) float64 { return float64(r.Percentile(at)) })))
		}
		t.add(append(cells, grouped(r.scores.rate())+"/s")...)
	}
	p.printf("%s", t)
	return nil
}

// growth measures how cost grows with the number of Things and the size of payloads.
func (p plan) growth(ctx context.Context) error {
	p.printf("Medians of %d runs of %s, sync: always, a broker that costs nothing, everything on the same %s.\n", p.runs, p.duration, machine())
	for _, k := range []bench.Kind{bench.Down, bench.Up} {
		p.printf("\n**%s: Things, %d-byte payloads**\n\n", way(k), p.size)
		t := table{head: []string{"Things", "messages/s", "CPU a message", "memory"}}
		for _, things := range []int{1, 10, 100, 1000} {
			s, err := p.repeat(ctx, trial{contender: synced, broker: onFree, load: p.load(k, things)})
			if err != nil {
				return fmt.Errorf("%s, %d Things: %w", k, things, err)
			}
			t.add(grouped(float64(things)), grouped(s.rate()), micros(s.each()), s.memory())
		}
		p.printf("%s\n**%s: payloads, one Thing**\n\n", t, way(k))
		t = table{head: []string{"bytes", "messages/s", "MiB/s", "CPU a message", "memory"}}
		for _, size := range []int{100, 300, 1000, 4096, 16384, 65536} {
			l := p.load(k, 1)
			l.Size, l.Window = size, min(4096, 64<<20/size) // or the window alone would be 256 MiB
			s, err := p.repeat(ctx, trial{contender: synced, broker: onFree, load: l})
			if err != nil {
				return fmt.Errorf("%s, %d bytes: %w", k, size, err)
			}
			t.add(grouped(float64(size)), grouped(s.rate()), fmt.Sprintf("%.1f", s.rate()*float64(size)/(1<<20)), micros(s.each()), s.memory())
		}
		p.printf("%s", t)
	}
	return nil
}

func (p plan) repeat(ctx context.Context, t trial) (s scores, err error) {
	for range p.runs {
		r, err := p.measure(ctx, t)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "%s, %d Things, %d bytes: %.0f/s\n", t.load.Kind, len(t.load.Things), t.load.Size, r.Rate())
		s = append(s, r)
	}
	return s, nil
}

func (s scores) memory() string {
	return fmt.Sprintf("%.0f MiB", median(s, func(r bench.Result) float64 { return float64(r.Subject.Memory) / (1 << 20) }))
}
