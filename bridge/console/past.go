package console

import (
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"fleetbridge/bridge/gateway"
)

var pastEndpoints = []endpoint{
	{method: "GET", path: "history", role: viewer, query: []string{"span"}, about: "The last hour, a sample every ten seconds, or with span=24h the last day, one every five minutes, the oldest first; start is the time of the first, and what is not known is null. " +
		"Counters are rates a second since the sample before. For a day, queued and memory are the most, and connected the least, since the sample before. Both begin when the bridge starts.",
		sample: `{"step":10,"start":"…","series":{"upDelivered":[null,412.3],"upDuplicate":[null,0],"upDead":[null,0.1],"downDelivered":[null,38],"downDuplicate":[null,0],"downDead":[null,0],"accepted":[null,413],"queued":[1204,1188],"connected":[998,998],"memory":[137363456,137363456]}}`,
		answer: (*Console).history},
	{method: "GET", path: "events", role: viewer, query: []string{"before", "limit"}, about: "The last 1,000 lines of the bridge's log, the newest first, of level INFO and up whatever log.level is.",
		sample: `{"items":[{"n":17,"at":"…","level":"WARN","message":"disconnected","thing":"pump-07","attrs":{"error":"…"}}],"next":"17"}`,
		answer: (*Console).events},
	{method: "GET", path: "config", role: operator, about: "The configuration in force, with every default and without secrets; what check says of it; how the last reload ended.",
		sample: `{"yaml":"mqtt:\n  server: …","warnings":["fleetbridge.yaml:12:3: …"],"reload":{"at":"…","ok":false,"error":"…"}}`,
		answer: (*Console).config},
}

type historyAnswer struct {
	Step   int                   `json:"step"`
	Start  time.Time             `json:"start,omitzero"`
	Series map[string][]*float64 `json:"series"`
}

func (c *Console) history(q *request) (any, error) {
	span, err := word(q.query, "span", "1h", "24h")
	if err != nil {
		return nil, err
	}
	samples, step, most := c.gateway.History(), gateway.HistoryStep, time.Hour
	if span == "24h" {
		samples, step, most = c.gateway.Day(), gateway.DayStep, 24*time.Hour
	}
	out := historyAnswer{Step: int(step.Seconds()), Series: map[string][]*float64{}}
	at := places(samples, step, most)
	if len(samples) > 0 {
		out.Start = samples[0].At.UTC().Truncate(time.Second)
	}
	series := func(name string) []*float64 {
		out.Series[name] = make([]*float64, 0)
		if len(at) > 0 {
			out.Series[name] = make([]*float64, at[len(at)-1]+1)
		}
		return out.Series[name]
	}
	level := func(name string, of func(gateway.Sample) float64) {
		series := series(name)
		for i, s := range samples {
			series[at[i]] = rounded(of(s))
		}
	}
	rate := func(name string, of func(gateway.Sample) uint64) {
		series := series(name)
		for i := 1; i < len(samples); i++ {
			now, before := of(samples[i]), of(samples[i-1])
			if took := samples[i].At.Sub(samples[i-1].At).Seconds(); now >= before && took > 0 {
				series[at[i]] = rounded(float64(now-before) / took)
			}
		}
	}
	rate("upDelivered", func(s gateway.Sample) uint64 { return s.Up.Delivered })
	rate("upDuplicate", func(s gateway.Sample) uint64 { return s.Up.Duplicate })
	rate("upDead", func(s gateway.Sample) uint64 { return s.Up.Dead })
	rate("downDelivered", func(s gateway.Sample) uint64 { return s.Down.Delivered })
	rate("downDuplicate", func(s gateway.Sample) uint64 { return s.Down.Duplicate })
	rate("downDead", func(s gateway.Sample) uint64 { return s.Down.Dead })
	rate("accepted", func(s gateway.Sample) uint64 { return s.Accepted })
	level("queued", func(s gateway.Sample) float64 { return float64(s.Queued) })
	level("connected", func(s gateway.Sample) float64 { return float64(s.Connected) })
	level("memory", func(s gateway.Sample) float64 { return float64(s.Memory) })
	return out, nil
}

// places is where in a series each sample is: the computer may have slept between two.
func places(samples []gateway.Sample, step, most time.Duration) []int {
	out := make([]int, len(samples))
	for i := 1; i < len(samples); i++ {
		took := min(samples[i].At.Sub(samples[i-1].At), most)
		out[i] = out[i-1] + max(1, int(took.Round(step)/step))
	}
	return out
}

// rounded keeps a few digits.
func rounded(f float64) *float64 {
	f, _ = strconv.ParseFloat(strconv.FormatFloat(f, 'f', 2, 64), 64)
	return &f
}

func (c *Console) events(q *request) (any, error) {
	before, err := q.number("before", 1<<63, 1<<63)
	if err != nil {
		return nil, err
	}
	limit, err := q.limit()
	if err != nil {
		return nil, err
	}
	out := list[gateway.Event]{Items: []gateway.Event{}}
	for _, e := range slices.Backward(c.gateway.Events()) {
		switch {
		case e.Number >= before:
		case len(out.Items) == limit:
			out.Next = strconv.FormatUint(out.Items[limit-1].Number, 10)
			return out, nil
		default:
			out.Items = append(out.Items, e)
		}
	}
	return out, nil
}

type configAnswer struct {
	YAML     string   `json:"yaml"`
	Warnings []string `json:"warnings,omitempty"`
	Reload   *reload  `json:"reload,omitempty"`
}

func (c *Console) config(*request) (any, error) {
	cfg := c.gateway.Config()
	text, err := yaml.Marshal(cfg) // as fleetbridge bundle has it: secrets print themselves as [redacted]
	if err != nil {
		return nil, err
	}
	out := configAnswer{YAML: string(text), Reload: c.lastReload()}
	for _, w := range cfg.Warnings {
		out.Warnings = append(out.Warnings, w.String())
	}
	for _, e := range cfg.Exposed {
		out.Warnings = append(out.Warnings, e.String())
	}
	return out, nil
}
