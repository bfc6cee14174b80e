package console

import (
	"cmp"
	"context"
	"net/http"
	"os"
	"runtime"
	"slices"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local/storedir"
	"fleetbridge/bridge/sightings"
	"fleetbridge/mapping"
)

var loginEndpoints = []endpoint{
	{method: "GET", path: "session", about: "How one may log in: passwords says whether console.users has anybody. A link always does.",
		sample: `{"passwords":true}`,
		answer: (*Console).ways},
	{method: "POST", path: "session", about: "Log in with the code of a link, which is used up: {\"link\":\"CODE\"}. Or with a name and password of console.users: five are judged in a second, and of one address one (five at once); 429 says that it was not judged.",
		body:   `{"user":"NAME","password":"PASSWORD"}`,
		sample: `{"token":"1.operator.…","role":"operator","actions":["replay","discard","doctor"],"expires":"2026-12-01T07:00:00Z"}`,
		answer: (*Console).login},
	{method: "GET", path: "", role: viewer, about: "What this console is, who asks, and the values that parameters can have.",
		sample: `{"version":"v0.4.0","commit":"…","instance":"9f1c2d3e4a5b","started":"…","now":"…","prefix":"fleets","role":"viewer","actions":[],"expires":"…","channels":["shadow.report"],"codes":["json"],"outcomes":["delivered"],"kinds":["commands"],"limits":{"payload":131072,"page":100,"bulk":1000}}`,
		answer: (*Console).index},
}

type loginAnswer struct {
	Token   string    `json:"token"`
	Role    string    `json:"role"`
	Actions []string  `json:"actions"`
	Expires time.Time `json:"expires"`
}

func (c *Console) ways(*request) (any, error) {
	return map[string]bool{"passwords": len(c.gateway.Config().Console.Users) > 0}, nil
}

func (c *Console) login(q *request) (any, error) {
	var in struct {
		Link     string `json:"link"`
		User     string `json:"user"`
		Password string `json:"password"`
	}
	if err := q.read(&in); err != nil {
		return nil, err
	}
	token, s, err := "", session{}, error(nil)
	switch byName := in.User != "" || in.Password != ""; {
	case byName && in.Link != "":
		return nil, refuse(http.StatusBadRequest, "link is given beside user and password, give one of them")
	case byName:
		token, s, err = c.byPassword(q, in.User, in.Password)
	default:
		var ok bool
		if token, s, ok = c.logins.enter(in.Link); !ok {
			err = refuse(http.StatusUnauthorized, "the link was used already, or its two minutes are over; fleetbridge console prints a new one")
		}
	}
	if err != nil {
		c.wrong.tell(c.log, q.RemoteAddr, err)
		return nil, err
	}
	c.log.Info("somebody has logged in to the console", "role", s.role.String(), "login", s.id)
	return loginAnswer{token, s.role.String(), c.actions(s), s.expires}, nil
}

type indexAnswer struct {
	Version  string            `json:"version"`
	Commit   string            `json:"commit"`
	Instance string            `json:"instance"` // another after each start
	Started  time.Time         `json:"started"`
	Now      time.Time         `json:"now"`
	Prefix   string            `json:"prefix"`
	Role     string            `json:"role"`
	Actions  []string          `json:"actions"`
	Expires  time.Time         `json:"expires"`
	Channels []mapping.Channel `json:"channels"`
	Codes    []bridge.Code     `json:"codes"`
	Outcomes []bridge.Outcome  `json:"outcomes"`
	Kinds    []string          `json:"kinds"`
	Limits   map[string]int    `json:"limits"`
}

func (c *Console) index(q *request) (any, error) {
	cfg, build := c.gateway.Config(), c.gateway.Build()
	out := indexAnswer{Version: build.Version, Commit: build.Commit, Now: now(), Prefix: cfg.NATS.Prefix,
		Role: q.session.role.String(), Actions: c.actions(q.session), Expires: q.session.expires,
		Channels: sightings.Channels, Codes: bridge.Codes[:], Outcomes: bridge.Sightings[:], Kinds: kinds(),
		Limits: map[string]int{"payload": int(cfg.Limits.Payload), "page": pageItems, "bulk": maxBulk}}
	out.Instance, out.Started = c.gateway.Instance()
	return out, nil
}

// now is the time for people's eyes.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

var overviewEndpoints = []endpoint{
	{method: "GET", path: "overview", role: viewer, stored: true, about: "Whether the gateway is all right. Counters are since the start, rates of the last 10 to 20 s; p50Ms and p99Ms estimate how long the messages took that were delivered within the last minute. A problem without Things is the gateway's.",
		sample: `{"now":"…","version":"v0.4.0","instance":"9f1c2d3e4a5b","started":"…","host":"gw-17","ready":false,"things":{"all":1000,"connected":998,"ready":997,"queued":31,"dead":6},"problems":[{"part":"connection","reason":"not connected to the broker: refused 0x87","things":2,"example":"pump-07"}],"up":{"delivered":12345,"duplicate":0,"dead":17,"rate":412.3,"p50Ms":3.9,"p99Ms":22.1},"down":{"delivered":999,"duplicate":3,"dead":0,"rate":38},"queued":1204,"oldest":"…","dead":{"stored":17,"since":[{"direction":"up","code":"schema","count":12}]},"work":{"commands":4,"nextDeadline":"…"},"streams":[{"stream":"FLEETS_DOWN","exists":true,"messages":5512,"bytes":1048576,"maxBytes":268435456,"discards":true}],"machine":{"memory":137363456,"goroutines":120,"diskFree":5476083302,"diskTotal":30064771072},"reload":{"at":"…","ok":true},"certificates":[{"file":"/etc/fleetbridge/ca.pem","use":"mqtt.tls.ca_file","expires":"…"}]}`,
		answer: (*Console).overview},
}

// problem is one cause why the gateway is not ready.
type problem struct {
	Part    string `json:"part"`
	Reason  string `json:"reason"`
	Things  int    `json:"things"` // that have it; 0: it is the gateway's
	Example string `json:"example,omitempty"`
}

type passage struct {
	gateway.Counts
	Rate float64 `json:"rate"` // delivered, a second
	// P50 and P99 are estimates of how long they took within the last minute; nil: none was delivered.
	P50 *float64 `json:"p50Ms,omitempty"`
	P99 *float64 `json:"p99Ms,omitempty"`
}

type overviewAnswer struct {
	Now      time.Time      `json:"now"`
	Version  string         `json:"version"`
	Instance string         `json:"instance"`
	Started  time.Time      `json:"started"`
	Host     string         `json:"host"`
	Ready    bool           `json:"ready"`
	Things   map[string]int `json:"things"`
	Problems []problem      `json:"problems"`
	Up       passage        `json:"up"`
	Down     passage        `json:"down"`
	Queued   uint64         `json:"queued"`
	Oldest   time.Time      `json:"oldest,omitzero"`
	Dead     deadAnswer     `json:"dead"`
	Work     workCount      `json:"work"`
	Streams  []stream       `json:"streams,omitempty"`
	Machine  machine        `json:"machine"`
	Reload   *reload        `json:"reload,omitempty"`
	// Certificates has those that the bridge uses, the next to expire first.
	Certificates []gateway.Certificate `json:"certificates,omitempty"`
}

type deadAnswer struct {
	Stored uint64              `json:"stored"`
	Since  []gateway.DeadCount `json:"since"`
}

type workCount struct {
	Commands     int       `json:"commands"`
	NextDeadline time.Time `json:"nextDeadline,omitzero"`
}

type stream struct {
	Stream   string `json:"stream"`
	Exists   bool   `json:"exists"`
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
	MaxBytes int64  `json:"maxBytes"` // 0: no limit
	Discards bool   `json:"discards"` // when full it forgets the oldest, else it refuses more
}

type machine struct {
	Memory     uint64 `json:"memory"`
	Goroutines int    `json:"goroutines"`
	DiskFree   uint64 `json:"diskFree,omitempty"`
	DiskTotal  uint64 `json:"diskTotal,omitempty"`
}

type reload struct {
	At    time.Time `json:"at"`
	OK    bool      `json:"ok"`
	Error string    `json:"error,omitempty"`
}

func (c *Console) lastReload() *reload {
	last := c.gateway.LastReload()
	if last == nil {
		return nil
	}
	out := &reload{At: last.At.UTC(), OK: last.Err == nil}
	if last.Err != nil {
		out.Error = last.Err.Error()
	}
	return out
}

func (c *Console) overview(q *request) (any, error) {
	g := c.gateway
	look := c.look(q)
	out := overviewAnswer{Now: now(), Version: g.Build().Version, Problems: causes(look.problems), Ready: len(look.problems) == 0, Reload: c.lastReload(), Things: look.states(), Certificates: g.Certificates()}
	out.Instance, out.Started = g.Instance()
	out.Host, _ = os.Hostname()
	for _, t := range look.things {
		out.Queued += t.Queued
		if at := t.Oldest(); !at.IsZero() && (out.Oldest.IsZero() || at.Before(out.Oldest)) {
			out.Oldest = at
		}
		open := t.Commands()
		out.Work.Commands += len(open)
		if len(open) > 0 && (out.Work.NextDeadline.IsZero() || open[0].Deadline.Before(out.Work.NextDeadline)) {
			out.Work.NextDeadline = open[0].Deadline
		}
	}
	c.flows(&out)
	out.Dead.Since = g.DeadCounts()
	ctx, cancel := context.WithTimeout(q.Context(), storeTime)
	defer cancel()
	if fills, err := g.Fills(ctx); err == nil { // while the NATS server is away the rest is worth showing
		for _, f := range fills {
			out.Streams = append(out.Streams, stream{f.Stream, f.Exists, f.Messages, f.Bytes, f.MaxBytes, f.Discards})
			if f.Letters {
				out.Dead.Stored = f.Messages
			}
		}
	}
	if free, total, _, err := storedir.Space(g.Config().NATS.Embedded.StoreDir); err == nil {
		out.Machine.DiskFree, out.Machine.DiskTotal = free, total
	}
	return out, nil
}

// storeTime is how long what is worth showing without the store waits for it.
const storeTime = 2 * time.Second

// rateTime is how far back a rate looks at least.
const rateTime = 10 * time.Second

// flows fills in what is counted, and how fast it grows.
func (c *Console) flows(out *overviewAnswer) {
	s := c.gateway.Now()
	_, started := c.gateway.Instance()
	before := gateway.Sample{At: started}
	for _, old := range c.gateway.History() {
		if s.At.Sub(old.At) >= rateTime {
			before = old
		}
	}
	rate := func(now, then gateway.Counts) float64 {
		return float64(now.Delivered-then.Delivered) / max(s.At.Sub(before.At).Seconds(), 1)
	}
	out.Up, out.Down = c.flow(mapping.Up, s.Up, rate(s.Up, before.Up)), c.flow(mapping.Down, s.Down, rate(s.Down, before.Down))
	out.Machine.Memory, out.Machine.Goroutines = s.Memory, runtime.NumGoroutine()
}

func (c *Console) flow(d mapping.Direction, counts gateway.Counts, rate float64) passage {
	out := passage{Counts: counts, Rate: rate}
	if p50, p99, known := c.gateway.Latency(d); known {
		out.P50, out.P99 = rounded(p50.Seconds()*1000), rounded(p99.Seconds()*1000)
	}
	return out
}

// causes adds up problems that say the same, the most common first.
func causes(all []gateway.NotReady) []problem {
	out := []problem{}
	at := map[[2]string]int{}
	for _, p := range all {
		key := [2]string{p.Part, p.Reason}
		i, known := at[key]
		if !known {
			i = len(out)
			at[key] = i
			out = append(out, problem{Part: p.Part, Reason: p.Reason, Example: p.Thing})
		}
		if p.Thing != "" {
			out[i].Things++
		}
	}
	slices.SortStableFunc(out, func(a, b problem) int {
		return cmp.Or(cmp.Compare(min(a.Things, 1), min(b.Things, 1)), cmp.Compare(b.Things, a.Things))
	})
	return out[:min(len(out), maxCauses)]
}

// maxCauses bounds what the overview says of what is wrong.
const maxCauses = 50
