package console

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/bridge"
	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local"
	"fleetbridge/bridge/local/letters"
	"fleetbridge/mapping"
)

var thingEndpoints = []endpoint{
	{method: "GET", path: "things", role: viewer, query: []string{"q", "state", "sort", "after", "limit"},
		about:  "The Things, by page. q is a part of the name, or a pattern with *; state is all, down, notready, queued or dead; sort is name, queued, dead, last or since. Counters are since the Thing was started.",
		sample: `{"items":[` + thingSample + `],"next":"100","matched":31,"states":{"all":1000,"down":2,"notready":3,"queued":31,"dead":6}}`,
		answer: (*Console).things},
	{method: "GET", path: "things/{t}", role: viewer, stored: true, about: "One Thing, by its token, with the number of its queued messages and dead letters. If these are not known, unknown says why.",
		sample: `{"thing":"pump-07","…":"as in the list","clientId":"pump-07","sessionPresent":true,"standing":[{"kind":"events","reason":"…"}],"queues":[{"thing":"pump-07","kind":"events","messages":12,"bytes":3400,"oldest":"…"}],"deadStored":5}`,
		answer: (*Console).thing},
	{method: "GET", path: "things/{t}/shadow", role: viewer, about: "The last known shadow document. It is null while nothing is known. state is known, stale or unknown.",
		sample: `{"state":"known","document":{"reported":{},"desired":{},"delta":{},"version":12,"updatedAt":"…"}}`,
		answer: (*Console).shadow},
}

const thingSample = `{"thing":"pump-07","token":"pump-07","connected":false,"subscribed":false,"ready":false,"since":"…","problems":["not connected to the broker: refused 0x87"],"lastError":"refused 0x87","shadow":"stale","version":41,"delta":true,"queued":1102,"oldest":"…","up":{"delivered":10,"duplicate":0,"dead":5},"down":{"delivered":3,"duplicate":0,"dead":0},"last":"…"}`

// look is the Things as they are now, and what is wrong with them.
type look struct {
	things   []gateway.ThingView
	problems []gateway.NotReady
	of       map[string][]string // reasons by Thing
	whole    bool                // the gateway has problems of its own, and so no Thing is ready
}

func (c *Console) look(q *request) look {
	l := look{things: c.gateway.Things(), problems: c.gateway.Ready(q.Context())}
	l.of = make(map[string][]string, len(l.problems))
	reasons := make([]string, len(l.problems)) // one piece of memory for the usual case, a problem a Thing
	for i, p := range l.problems {
		if had := l.of[p.Thing]; had != nil {
			l.of[p.Thing] = append(had, p.Reason)
			continue
		}
		reasons[i] = p.Reason
		l.of[p.Thing] = reasons[i : i+1 : i+1]
	}
	l.whole = len(l.of[""]) > 0
	return l
}

func (l look) ready(t *gateway.ThingView) bool { return !l.whole && len(l.of[string(t.Name)]) == 0 }

// inState reports whether a Thing is in one of the states that can be asked for.
func (l look) inState(t *gateway.ThingView, state string) bool {
	switch state {
	case "down":
		return !t.State.Connected
	case "notready":
		return !l.ready(t)
	case "queued":
		return t.Queued > 0
	case "dead":
		return dead(t) > 0
	}
	return true
}

func dead(t *gateway.ThingView) uint64 { return t.Tally.Up.Dead + t.Tally.Down.Dead }

// states counts the Things in each.
func (l look) states() map[string]int {
	n := len(l.things)
	connected, ready, queued, lost := 0, 0, 0, 0
	for i := range l.things {
		t := &l.things[i]
		connected += one(t.State.Connected)
		ready += one(l.ready(t))
		queued += one(t.Queued > 0)
		lost += one(dead(t) > 0)
	}
	return map[string]int{"all": n, "connected": connected, "down": n - connected, "ready": ready, "notready": n - ready, "queued": queued, "dead": lost}
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// thingItem is a Thing in a list.
type thingItem struct {
	Thing      string             `json:"thing"`
	Token      string             `json:"token"`
	Connected  bool               `json:"connected"`
	Subscribed bool               `json:"subscribed"`
	Ready      bool               `json:"ready"`
	Since      time.Time          `json:"since,omitzero"`
	Problems   []string           `json:"problems,omitempty"`
	LastError  string             `json:"lastError,omitempty"`
	Shadow     bridge.ShadowState `json:"shadow"`
	Version    int64              `json:"version,omitempty"`
	Delta      bool               `json:"delta,omitempty"`
	Queued     uint64             `json:"queued"`
	Oldest     time.Time          `json:"oldest,omitzero"`
	Up         gateway.Counts     `json:"up"`
	Down       gateway.Counts     `json:"down"`
	Last       time.Time          `json:"last,omitzero"`
}

func (l look) item(t *gateway.ThingView) thingItem {
	out := thingItem{
		Thing: string(t.Name), Token: mapping.Token(string(t.Name)), Connected: t.State.Connected, Subscribed: t.State.Subscribed, Ready: l.ready(t),
		Since: t.State.Since.UTC(), Problems: l.of[string(t.Name)], LastError: t.State.LastError, Shadow: t.Shadow, Queued: t.Queued, Oldest: t.Oldest(),
		Up: t.Tally.Up, Down: t.Tally.Down, Last: t.Tally.Last,
	}
	if document, known := t.Document(); known {
		out.Version = gjson.GetBytes(document, "version").Int()
		delta := strings.TrimSpace(gjson.GetBytes(document, "delta").Raw)
		out.Delta = delta != "" && delta != "{}" && delta != "null"
	}
	return out
}

type thingsAnswer struct {
	list[thingItem]
	Matched int            `json:"matched"`
	States  map[string]int `json:"states"` // of all Things, whatever is asked for
}

func (c *Console) things(q *request) (any, error) {
	state, err := word(q.query, "state", "all", "down", "notready", "queued", "dead")
	if err != nil {
		return nil, err
	}
	order, err := word(q.query, "sort", "name", "queued", "dead", "last", "since")
	if err != nil {
		return nil, err
	}
	after, err := q.number("after", 0, 1<<30)
	if err != nil {
		return nil, err
	}
	limit, err := q.limit()
	if err != nil {
		return nil, err
	}
	return c.look(q).page(state, q.text("q"), order, int(after), limit), nil
}

// page is a part of the Things in a state whose names have a pattern, in an order.
func (l look) page(state, pattern, order string, after, limit int) thingsAnswer {
	out := thingsAnswer{States: l.states()}
	pattern = strings.ToLower(pattern)
	var picked []*gateway.ThingView
	for i := range l.things {
		if t := &l.things[i]; l.inState(t, state) && named(string(t.Name), pattern) {
			picked = append(picked, t)
		}
	}
	sortThings(picked, order)
	out.Matched = len(picked)
	from := min(after, len(picked))
	to := min(from+limit, len(picked))
	out.Items = make([]thingItem, 0, to-from)
	for _, t := range picked[from:to] {
		out.Items = append(out.Items, l.item(t))
	}
	if to < len(picked) {
		out.Next = strconv.Itoa(to)
	}
	return out
}

// named reports whether a name has what somebody typed, in small letters, in it; * stands for any characters.
func named(name, pattern string) bool {
	name = strings.ToLower(name)
	for part := range strings.SplitSeq(pattern, "*") {
		_, rest, found := strings.Cut(name, part)
		if !found {
			return false
		}
		name = rest
	}
	return true
}

// sortThings sorts numbers and times with the largest first, and what is the same by name.
func sortThings(ts []*gateway.ThingView, order string) {
	by := map[string]func(a, b *gateway.ThingView) int{
		"queued": func(a, b *gateway.ThingView) int { return cmp.Compare(b.Queued, a.Queued) },
		"dead":   func(a, b *gateway.ThingView) int { return cmp.Compare(dead(b), dead(a)) },
		"last":   func(a, b *gateway.ThingView) int { return b.Tally.Last.Compare(a.Tally.Last) },
		"since":  func(a, b *gateway.ThingView) int { return b.State.Since.Compare(a.State.Since) },
	}[order]
	slices.SortFunc(ts, func(a, b *gateway.ThingView) int {
		if by != nil {
			if n := by(a, b); n != 0 {
				return n
			}
		}
		return cmp.Compare(a.Name, b.Name)
	})
}

// asked finds the Thing that a path names.
func (c *Console) asked(q *request) (gateway.ThingView, error) {
	token := q.PathValue("t")
	name, err := parseToken(token)
	if err != nil {
		return gateway.ThingView{}, refuse(http.StatusNotFound, "%q is no Thing's token: %s", clean(token), err)
	}
	all := c.gateway.Things()
	i := slices.IndexFunc(all, func(t gateway.ThingView) bool { return t.Name == name })
	if i < 0 {
		return gateway.ThingView{}, refuse(http.StatusNotFound, "the Thing %q is not configured", clean(string(name)))
	}
	return all[i], nil
}

type thingAnswer struct {
	thingItem
	ClientID       string              `json:"clientId,omitempty"`
	SessionPresent bool                `json:"sessionPresent"`
	Standing       []standing          `json:"standing,omitempty"` // kinds that stand still
	Queues         []local.WaitingLane `json:"queues"`
	DeadStored     uint64              `json:"deadStored"`
	Unknown        string              `json:"unknown,omitempty"` // why the last two are not known
}

type standing struct {
	Kind   string `json:"kind"`
	Reason string `json:"reason"`
}

func (c *Console) thing(q *request) (any, error) {
	t, err := c.asked(q)
	if err != nil {
		return nil, err
	}
	out := thingAnswer{thingItem: c.look(q).item(&t), ClientID: t.ClientID(), SessionPresent: t.State.SessionPresent, Queues: []local.WaitingLane{}}
	for _, s := range t.State.Standing {
		out.Standing = append(out.Standing, standing{s.Kind, s.Reason})
	}
	ctx, cancel := context.WithTimeout(q.Context(), storeTime)
	defer cancel()
	if err := c.storedOf(ctx, t.Name, &out); err != nil { // the rest is worth showing
		out.Unknown = err.Error()
	}
	return out, nil
}

// storedOf fills in what only the store knows.
func (c *Console) storedOf(ctx context.Context, t mapping.Thing, out *thingAnswer) error {
	nc, subjects, err := c.gateway.NATS()
	if err != nil {
		return err
	}
	waiting, err := local.NewWaiting(nc, subjects)
	if err != nil {
		return err
	}
	lanes, err := waiting.Lanes(ctx, t, "")
	if err != nil {
		return err
	}
	out.Queues = append(out.Queues, lanes...)
	letters, err := letters.New(nc, subjects)
	if err != nil {
		return err
	}
	out.DeadStored, err = letters.Count(ctx, t)
	return err
}

type shadowAnswer struct {
	State    bridge.ShadowState `json:"state"`
	Document json.RawMessage    `json:"document"`
}

func (c *Console) shadow(q *request) (any, error) {
	t, err := c.asked(q)
	if err != nil {
		return nil, err
	}
	out := shadowAnswer{State: t.Shadow, Document: json.RawMessage("null")}
	if document, known := t.Document(); known {
		out.Document = document
	}
	return out, nil
}
