package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"

	"fleetbridge/bridge/gateway"
)

func newStatus(s streams) *cobra.Command {
	var p pages
	var all, asJSON, watch bool
	var interval time.Duration
	c := &cobra.Command{
		Use:   "status [--config FILE | --url URL]",
		Short: "Show at a glance whether a running bridge passes everything on",
		Long: "Show whether a running bridge passes everything on, from its pages /readyz and /metrics: whether it is ready and\n" +
			"else why not, the Things' links and queues, and the dead letters since its start. Of many Things, only those\n" +
			"with a problem or a queue are listed. Exit code 0: the bridge has answered, ready or not. In scripts, use\n" +
			"healthcheck --ready.",
		Example: "  fleetbridge status --watch\n  fleetbridge status --json | jq .problems",
		Args:    between(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if interval <= 0 {
				return usagef("status: --interval %s: must be more than 0", interval)
			}
			if err := p.find(c); err != nil {
				return err
			}
			show := func(ctx context.Context) error {
				now, err := readStatus(ctx, &p)
				if err != nil {
					return err
				}
				if asJSON {
					return jsonLines(s.out).Encode(now)
				}
				return now.print(s.out, all)
			}
			if !watch {
				return show(c.Context())
			}
			return watching(c.Context(), s, asJSON, interval, show)
		},
	}
	p.flags(c)
	c.Flags().BoolVar(&all, "all", false, "list every Thing")
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	c.Flags().BoolVar(&watch, "watch", false, "again and again, until interrupted")
	c.Flags().DurationVar(&interval, "interval", 2*time.Second, "with --watch: how often")
	return c
}

// watching shows it again and again, and goes on while the bridge is away. It ends with ctx.
func watching(ctx context.Context, s streams, asJSON bool, interval time.Duration, show func(context.Context) error) error {
	next := time.NewTicker(interval)
	defer next.Stop()
	for {
		if terminal(s.out) && !asJSON {
			fmt.Fprint(s.out, "\x1b[H\x1b[2J")
		}
		if err := show(ctx); err != nil && ctx.Err() == nil {
			fmt.Fprintf(s.err, "fleetbridge: %s\n", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
			if !terminal(s.out) && !asJSON {
				fmt.Fprintln(s.out)
			}
		}
	}
}

// status is what a bridge says of itself.
type status struct {
	At            time.Time          `json:"at"`
	Version       string             `json:"version"`
	Ready         bool               `json:"ready"`
	StoreWritable bool               `json:"storeWritable"`
	Queued        uint64             `json:"queued"`        // messages that wait for the broker, of all Things
	OldestSeconds float64            `json:"oldestSeconds"` // how long the oldest of them waits; 0: none does
	DeadLetters   []deadCount        `json:"deadLetters"`   // since the start of the bridge
	Problems      []gateway.NotReady `json:"problems"`      // of the gateway and of Things, as /readyz says
	Things        []*thingStatus     `json:"things"`        // by name
}

type deadCount struct {
	Direction string `json:"direction"`
	Code      string `json:"code"`
	Count     uint64 `json:"count"`
}

type thingStatus struct {
	Thing         string   `json:"thing"`
	Ready         bool     `json:"ready"`
	Connected     bool     `json:"connected"`
	Subscribed    bool     `json:"subscribed"`
	Queued        uint64   `json:"queued"`
	OldestSeconds float64  `json:"oldestSeconds"`
	Stalled       []string `json:"stalled"` // kinds that stand still
}

// readStatus asks both pages.
func readStatus(ctx context.Context, p *pages) (*status, error) {
	const ready, metrics = "/readyz", "/metrics"
	out := &status{At: time.Now().UTC().Truncate(time.Millisecond), DeadLetters: []deadCount{}, Things: []*thingStatus{}}
	code, body, err := p.get(ctx, ready)
	if err != nil {
		return nil, err
	}
	var said struct {
		Ready    bool
		Problems []gateway.NotReady
	}
	if code != http.StatusOK && code != http.StatusServiceUnavailable || json.Unmarshal(body, &said) != nil {
		return nil, fmt.Errorf("status: %s%s: no bridge answers so: %d %s", p.base, ready, code, http.StatusText(code))
	}
	out.Ready, out.Problems = said.Ready, said.Problems
	if code, body, err = p.get(ctx, metrics); err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if code != http.StatusOK || err != nil {
		return nil, fmt.Errorf("status: %s%s: no bridge answers so: %d %s, %v", p.base, metrics, code, http.StatusText(code), err)
	}
	out.count(families)
	return out, nil
}

// count takes what is shown out of the metrics.
func (st *status) count(families map[string]*dto.MetricFamily) {
	things := map[string]*thingStatus{}
	each := func(name string, f func(t *thingStatus, label func(string) string, value float64)) {
		for _, m := range families["fleetbridge_"+name].GetMetric() {
			label := func(name string) string {
				for _, l := range m.Label {
					if l.GetName() == name {
						return l.GetValue()
					}
				}
				return ""
			}
			thing := things[label("thing")]
			if thing == nil {
				thing = &thingStatus{Thing: label("thing"), Stalled: []string{}}
				things[thing.Thing] = thing
			}
			f(thing, label, m.GetGauge().GetValue()+m.GetCounter().GetValue())
		}
	}
	each("ready", func(t *thingStatus, _ func(string) string, v float64) { t.Ready = v == 1 })
	each("mqtt_connected", func(t *thingStatus, _ func(string) string, v float64) { t.Connected = v == 1 })
	each("subscribed", func(t *thingStatus, _ func(string) string, v float64) { t.Subscribed = v == 1 })
	each("queued_messages", func(t *thingStatus, _ func(string) string, v float64) {
		t.Queued = uint64(v)
		st.Queued += t.Queued
	})
	each("oldest_message_age_seconds", func(t *thingStatus, _ func(string) string, v float64) {
		t.OldestSeconds = v
		st.OldestSeconds = max(st.OldestSeconds, v)
	})
	each("stalled", func(t *thingStatus, label func(string) string, v float64) {
		if v == 1 {
			t.Stalled = append(t.Stalled, label("kind"))
		}
	})
	each("store_writable", func(_ *thingStatus, _ func(string) string, v float64) { st.StoreWritable = v == 1 })
	each("build_info", func(_ *thingStatus, label func(string) string, _ float64) { st.Version = label("version") })
	each("dead_letters_total", func(_ *thingStatus, label func(string) string, v float64) {
		if v > 0 {
			st.DeadLetters = append(st.DeadLetters, deadCount{label("direction"), label("code"), uint64(v)})
		}
	})
	delete(things, "") // the gateway's own
	for _, t := range things {
		st.Things = append(st.Things, t)
	}
	slices.SortFunc(st.Things, func(a, b *thingStatus) int { return cmp.Compare(a.Thing, b.Thing) })
	slices.SortFunc(st.DeadLetters, func(a, b deadCount) int {
		return cmp.Or(-cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Code, b.Code))
	})
}

// manyThings is from how many on those with nothing to tell are left out.
const manyThings = 20

func (st *status) print(to io.Writer, all bool) error {
	var out bytes.Buffer
	ready := 0
	for _, t := range st.Things {
		if t.Ready {
			ready++
		}
	}
	word := "ready"
	if !st.Ready {
		word = "NOT READY"
	}
	fmt.Fprintf(&out, "fleetbridge %s  %s  %d of %d Things ready, %d messages wait", st.Version, word, ready, len(st.Things), st.Queued)
	if st.Queued > 0 {
		fmt.Fprintf(&out, ", the oldest for %s", age(st.OldestSeconds))
	}
	fmt.Fprintln(&out)
	for _, p := range st.Problems {
		if p.Thing == "" {
			fmt.Fprintf(&out, "  %s: %s\n", p.Part, printable(p.Reason))
		}
	}
	if len(st.DeadLetters) > 0 {
		counts := make([]string, len(st.DeadLetters))
		for i, d := range st.DeadLetters {
			counts[i] = fmt.Sprintf("%s %s %d", d.Direction, d.Code, d.Count)
		}
		fmt.Fprintf(&out, "dead letters since the start: %s; fleetbridge dead ls tells why\n", strings.Join(counts, ", "))
	}
	fmt.Fprintln(&out)
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "THING\tLINK\tQUEUED\tOLDEST\tSTATE")
	left := 0
	for _, t := range st.Things {
		if !all && len(st.Things) > manyThings && t.Ready && t.Queued == 0 {
			left++
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", printable(t.Thing), t.link(), t.Queued, age(t.OldestSeconds), printable(st.state(t)))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if left > 0 {
		fmt.Fprintf(&out, "%d more are ready and nothing of theirs waits; --all lists them\n", left)
	}
	_, err := to.Write(out.Bytes())
	return err
}

func (t *thingStatus) link() string {
	switch {
	case !t.Connected:
		return "away"
	case !t.Subscribed:
		return "connected, not subscribed"
	}
	return "connected"
}

// state is why a Thing is not ready.
func (st *status) state(t *thingStatus) string {
	var why []string
	for _, p := range st.Problems {
		if p.Thing == t.Thing {
			why = append(why, p.Reason)
		}
	}
	switch {
	case len(why) > 0:
		return strings.Join(why, "; ")
	case !t.Ready:
		return "not ready"
	}
	return "ready"
}

// age spells how long something waits; "-": nothing does.
func age(seconds float64) string {
	if seconds <= 0 {
		return "-"
	}
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
